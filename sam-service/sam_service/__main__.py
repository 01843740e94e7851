"""`python -m sam_service` is the command `sam-service`."""

from sam_service.cli import main

raise SystemExit(main())
