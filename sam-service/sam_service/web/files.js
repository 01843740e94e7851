// What was dropped or chosen: files, or the pictures in a folder.

// Also of kinds that the service does not take: it names them, and none is left out of a clip in silence.
const PICTURE = /\.(jpe?g|png|webp|bmp|tiff?|avif|dpx|exr|hei[cf]|jp2|p[gp]m|tga)$/i;
const MOST = 20000;

/** The files of a drop; a folder stands for the pictures in it. Throws Error where there is nothing to open. */
export async function droppedFiles(transfer) {
  const entries = [...(transfer.items ?? [])].map((item) => item.webkitGetAsEntry?.()).filter(Boolean);
  if (!entries.some((entry) => entry.isDirectory)) return [...transfer.files];
  const found = [];
  for (const entry of entries) await collect(entry, found);
  return picturesOf(found);
}

/** The pictures among the files of a folder that was chosen, by name. */
export function picturesOf(files) {
  const pictures = files.filter(({ name }) => PICTURE.test(name) && !name.startsWith("."));
  if (!pictures.length) throw new Error("This folder holds no pictures (JPEG, PNG, WebP, BMP or TIFF).");
  return pictures.sort((a, b) => a.name.localeCompare(b.name, undefined, { numeric: true }));
}

async function collect(entry, found) {
  if (found.length > MOST) throw new Error(`This folder holds more than ${MOST} files.`);
  if (entry.isFile) return void found.push(await new Promise((resolve, reject) => entry.file(resolve, reject)));
  const reader = entry.createReader();
  for (;;) {
    const some = await new Promise((resolve, reject) => reader.readEntries(resolve, reject));
    if (!some.length) return;
    for (const other of some) if (other.isFile) await collect(other, found);
  }
}
