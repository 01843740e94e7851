"""Record what Meta's own video predictor answers on the parity clip. Runs in the peer's environment, not the project's:

    python3 -m venv peer
    peer/bin/pip install torch==2.13.0 numpy pillow opencv-python-headless tqdm hydra-core iopath
    peer/bin/pip install --no-deps sam2==1.1.0 torchvision==0.28.0

    python seeded_weights.py WEIGHTS             (in the project's environment: one .pt for each size)
    peer/bin/python record_reference.py WEIGHTS  (writes reference/tiny-256.npz and meta-shapes.json beside it)

EdgeTAM has a `sam2` package of its own, as `edgetam-dimos`, so it needs another environment:

    edge/bin/pip install torch==2.13.0 numpy pillow opencv-python-headless tqdm hydra-core iopath
    edge/bin/pip install huggingface_hub safetensors pyyaml
    edge/bin/pip install --no-deps edgetam-dimos==1.0.1 timm==1.0.31 torchvision==0.28.0

    python seeded_weights.py WEIGHTS edgetam
    edge/bin/python record_reference.py WEIGHTS --edgetam   (writes reference/edgetam-256.npz and edgetam-shapes.json)

The `sam2` package is unmodified, fp32 on the CPU. Its hole filling (`fill_hole_area`, on by default) is a CUDA kernel:
on the CPU it is skipped with a warning, so the recorded logits are as the mask decoder gave them. It keeps its memories
in bfloat16 and counts on autocast, or on being joined with fp32 object pointers, to compute with them; where there is
no pointer yet it fails in fp32, so a hook widens what enters the memory attention (elsewhere that changes nothing).
README.md lists the keys.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from clip import FRAMES_FOLDER, disk
from numpy.typing import NDArray
from recorded import EDGETAM_PLAN, PLAN

# torchvision's compiled operators are absent beside a CPU build of torch; declaring them lets `sam2` import.
_OPERATORS: Any = torch.library.Library("torchvision", "DEF")
_OPERATORS.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
_OPERATORS.define(
    "roi_align(Tensor input, Tensor rois, float spatial_scale, int pooled_height, int pooled_width, "
    "int sampling_ratio, bool aligned) -> Tensor"
)
_OPERATORS.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")

from sam2.build_sam import build_sam2_video_predictor  # type: ignore[import-not-found]  # noqa: E402

REFERENCE = Path(__file__).parent / "reference"
CONFIGS = {size: f"configs/sam2.1/sam2.1_hiera_{short}.yaml"
           for size, short in (("tiny", "t"), ("small", "s"), ("base_plus", "b+"), ("large", "l"))}
EDGETAM = {"edgetam": "configs/edgetam.yaml"}
MASKS: dict[str, NDArray[np.bool_]] = {"disk": disk(0)}
Arrays = dict[str, NDArray[Any]]


def build(weights: Path, size: str, image_size: int, *overrides: str) -> Any:
    """The unmodified predictor of `size` with the seeded weights, on the CPU."""
    if size in EDGETAM:  # its table of rotary angles does not follow the image size
        cells = image_size // 16
        overrides += (f"++model.memory_attention.layer.cross_attention.q_sizes=[{cells},{cells}]",)
    predictor = build_sam2_video_predictor(
        (CONFIGS | EDGETAM)[size],
        str(weights / f"{size}.pt"),
        device="cpu",
        hydra_overrides_extra=[f"++model.image_size={image_size}", *overrides],
    )
    predictor.memory_attention.register_forward_pre_hook(widen_memory, with_kwargs=True)
    if size in EDGETAM:
        predictor.fill_hole_area = 0  # this package fills holes on a CPU, too
        one_object_at_a_time(predictor.spatial_perceiver)
    return predictor


def without_pretraining() -> None:
    """Let EdgeTAM's backbone be built without fetching weights that the checkpoint replaces."""
    import timm.models  # type: ignore[import-not-found]

    create = timm.models.create_model
    timm.models.create_model = lambda name, pretrained, **more: create(name, pretrained=False, **more)


def one_object_at_a_time(perceiver: Any) -> None:
    """Let EdgeTAM's perceiver take several objects; by itself it fails there, for it views what is not contiguous."""
    forward = perceiver.forward_2d

    def each(maps: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return tuple(map(torch.cat, zip(*(forward(one) for one in maps.split(1)), strict=True)))

    perceiver.forward_2d = each


def widen_memory(_module: Any, args: Any, kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    return args, {**kwargs, "memory": kwargs["memory"].float()}


def encoder_features(predictor: Any, frame: torch.Tensor) -> Iterator[tuple[str, NDArray[Any]]]:
    """The feature pyramid of one frame (3, S, S), finest level first, every 8th channel and 4th row and column."""
    with torch.inference_mode():
        levels = predictor.image_encoder(frame[None])["backbone_fpn"]
    for number, level in enumerate(levels):
        yield f"level{number}", level[0, ::8, ::4, ::4].numpy()


def kept_output(state: dict[str, Any], index: int, frame: int) -> dict[str, torch.Tensor]:
    """What the predictor keeps of object number `index` on `frame`; not yet consolidated answers come first."""
    for outputs in (state["temp_output_dict_per_obj"][index], state["output_dict_per_obj"][index]):
        for kind in ("cond_frame_outputs", "non_cond_frame_outputs"):
            if frame in outputs[kind]:
                found: dict[str, torch.Tensor] = outputs[kind][frame]
                return found
    raise LookupError(f"object number {index} has no output on frame {frame}")


def snapshot(state: dict[str, Any], indices: list[int], frame: int) -> Arrays:
    outputs = [kept_output(state, index, frame) for index in indices]
    return {
        "logits": torch.cat([out["pred_masks"][:, 0] for out in outputs]).numpy(),
        "scores": torch.cat([out["object_score_logits"][:, 0] for out in outputs]).numpy(),
        "pointers": torch.cat([out["obj_ptr"] for out in outputs]).numpy(),
    }


def prompt(predictor: Any, state: dict[str, Any], step: dict[str, Any]) -> Arrays:
    if step["do"] == "mask":
        _, ids, video = predictor.add_new_mask(state, step["frame"], step["object"], MASKS[step["mask"]])
    else:
        _, ids, video = predictor.add_new_points_or_box(
            state,
            step["frame"],
            step["object"],
            points=np.array(step["points"], np.float32) if "points" in step else None,
            labels=np.array(step["labels"], np.int32) if "points" in step else None,
            box=np.array(step["box"], np.float32) if "box" in step else None,
            clear_old_points=step.get("clear_old_points", True),
        )
    index = ids.index(step["object"])
    arrays = {key: value[None] for key, value in snapshot(state, [index], step["frame"]).items()}
    arrays["frames"] = np.array([step["frame"]])
    if step.get("video"):
        arrays["video"] = video[None, index].numpy()
    return arrays


def propagate(predictor: Any, state: dict[str, Any], step: dict[str, Any]) -> Arrays:
    frames, parts = [], []
    for frame, ids, _ in predictor.propagate_in_video(
        state, step.get("start_frame"), step.get("max_frames"), step.get("reverse", False)
    ):
        frames.append(frame)
        parts.append(snapshot(state, list(range(len(ids))), frame))
    return {"frames": np.array(frames), **{key: np.stack([part[key] for part in parts]) for key in parts[0]}}


def record_scenarios(plan: dict[str, Any], weights: Path) -> Arrays:
    """Every step of every scenario. A step that is bit-equal to an earlier one is kept as that one's name."""
    recorded: Arrays = {f"masks/{name}": mask for name, mask in MASKS.items()}
    earlier: dict[str, Arrays] = {}
    predictors = {
        every: build(weights, plan["size"], plan["image_size"], f"++model.add_all_frames_to_correct_as_cond={every}")
        for every in ("false", "true")
    }
    for scenario in plan["scenarios"]:
        predictor = predictors[str(scenario.get("all_corrections_condition", False)).lower()]
        state = predictor.init_state(str(FRAMES_FOLDER))
        for number, step in enumerate(scenario["steps"]):
            name = f"{scenario['name']}/{number}"
            run = propagate if step["do"] == "propagate" else prompt
            arrays = run(predictor, state, step)
            same = next((other for other, known in earlier.items() if bit_equal(arrays, known)), None)
            if same is not None:
                recorded[f"{name}/same_as"] = np.array(same)
                continue
            earlier[name] = arrays
            recorded.update({f"{name}/{key}": value for key, value in arrays.items()})
    return recorded


def bit_equal(one: Arrays, other: Arrays) -> bool:
    return one.keys() <= other.keys() and all(np.array_equal(one[key], other[key]) for key in one)


def write_shapes(path: Path, shapes: dict[str, dict[str, list[int]]]) -> None:
    """Names and shapes in Meta's layout, one object a size; what all sizes share stands once, under `common`."""
    first = next(iter(shapes.values()))
    common = {name: shape for name, shape in first.items() if all(s.get(name) == shape for s in shapes.values())}
    own = {size: {name: shape for name, shape in s.items() if name not in common} for size, s in shapes.items()}
    path.write_text(json.dumps({"common": common, **own}, separators=(",", ":")) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("weights", type=Path, help="the folder that seeded_weights.py wrote")
    parser.add_argument("--edgetam", action="store_true", help="record EdgeTAM instead of SAM 2.1")
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    plan = EDGETAM_PLAN if arguments.edgetam else PLAN
    out = arguments.out or REFERENCE / f"{plan['size']}-{plan['image_size']}.npz"
    if arguments.edgetam:
        without_pretraining()
    recorded = record_scenarios(plan, arguments.weights)
    shapes = {}
    for size in EDGETAM if arguments.edgetam else CONFIGS:
        predictor = build(arguments.weights, size, plan["image_size"])
        shapes[size] = {name: list(value.shape) for name, value in predictor.state_dict().items()}
        frame = predictor.init_state(str(FRAMES_FOLDER))["images"][0]
        for level, features in encoder_features(predictor, frame):
            recorded[f"encoder/{size}/{level}"] = features
    np.savez_compressed(out, allow_pickle=False, **recorded)
    write_shapes(out.with_name("edgetam-shapes.json" if arguments.edgetam else "meta-shapes.json"), shapes)


if __name__ == "__main__":
    main()
