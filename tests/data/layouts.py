"""Tiny data sets in the layouts that their authors publish, for tests.

Each writer fills a folder and gives the truth: by sample id, planar metres
[h, w] with 0 where there is no reading, and class names [h, w] where there are
any. The numbers are made up; bit depths, encodings and names are the real ones.
"""

import csv
import dataclasses
import json

import h5py
import numpy as np
from PIL import Image

HEIGHT, WIDTH = 6, 8


@dataclasses.dataclass
class Truth:
  """What a right reader gives of one sample."""

  metres: np.ndarray | None = None
  quantum: float = 0.0  # metres
  classes: np.ndarray | None = None  # names [h, w]
  camera: tuple = ()


def picture(path, seed=0, height=HEIGHT, width=WIDTH):
  path.parent.mkdir(parents=True, exist_ok=True)
  rng = np.random.default_rng(seed)
  pixels = rng.integers(0, 256, (height, width, 3)).astype(np.uint8)
  Image.fromarray(pixels).save(path)


def metres(seed, low=1.0, high=9.0, holes=3):
  """Depths [h, w], some pixels of them without a reading."""
  rng = np.random.default_rng(seed)
  found = rng.uniform(low, high, (HEIGHT, WIDTH))
  found.ravel()[:holes] = 0
  return found


def words(path, array):
  """A 16-bit grey PNG."""
  path.parent.mkdir(parents=True, exist_ok=True)
  Image.fromarray(array.astype(np.uint16)).save(path)
  assert Image.open(path).mode == "I;16"


def scaled(path, depth, scale):
  words(path, np.rint(depth * scale))


def kitti(root):
  truth = {}
  for part, drive in (("train", 1), ("train", 2), ("train", 3), ("val", 4)):
    name = f"2011_09_26_drive_{drive:04d}_sync"
    depth = metres(drive, 5, 84)
    annotated = root / part / name / "proj_depth/groundtruth/image_02"
    scaled(annotated / "0000000005.png", depth, 256)
    raw = root / "2011_09_26" / name / "image_02/data/0000000005.png"
    picture(raw, drive)
    truth[f"{name}/image_02/0000000005"] = Truth(
      depth, 1 / 256, camera=(721.5, 721.5, 610.1, 173.35)
    )
  (root / "2011_09_26/calib_cam_to_cam.txt").write_text(
    "calib_time: x\n"
    "P_rect_02: 721.5 0 609.6 44.8 0 721.5 172.85 0.2 0 0 1 0.003\n"
  )
  return truth


def nyu(root):
  truth = {}
  scenes = ("bath_0001a", "bath_0001b", "den_0002", "gym_0003")
  for i, scene in enumerate(scenes):
    depth = metres(i)
    scaled(root / "train" / scene / "sync_depth_00045.png", depth, 1000)
    picture(root / "train" / scene / "rgb_00045.jpg", i)
    truth[f"train/{scene}/00045"] = Truth(depth, 0.001)
  return truth | nyu_labelled(root)


def matlab(path, values):
  """A MATLAB file without the time of its writing."""
  from scipy.io import savemat

  path.parent.mkdir(parents=True, exist_ok=True)
  savemat(path, values)
  with path.open("r+b") as file:
    file.write(b"MATLAB 5.0 MAT-file".ljust(116))


def nyu_labelled(root):
  depth = np.stack([metres(10 + i, holes=0) for i in range(2)])
  labels = np.zeros((2, HEIGHT, WIDTH), np.uint16)
  labels[:, :, 4:], labels[:, 2:4] = 894, 1
  rng = np.random.default_rng(0)
  images = rng.integers(0, 256, (2, 3, WIDTH, HEIGHT)).astype(np.uint8)
  with h5py.File(root / "nyu_depth_v2_labeled.mat", "w") as file:
    file["images"] = images
    file["depths"] = depth.transpose(0, 2, 1).astype(np.float32)
    file["labels"] = labels.transpose(0, 2, 1)
  to_40 = np.full((1, 894), 40, np.uint8)
  to_40[0, 0] = 3  # a cabinet, in the list of 40
  matlab(root / "classMapping40.mat", {"mapClass": to_40})
  matlab(root / "splits.mat", {"testNdxs": np.array([[2]])})
  shown = [labels[0] == 894, labels[0] == 1]
  names = np.select(shown, ["other prop", "cabinet"], "")
  return {
    f"labeled/{i + 1:04d}": Truth(depth[i], 1e-6, names) for i in range(2)
  }


def tum(root):
  folder, truth = root / "rgbd_dataset_freiburg1_desk", {}
  # The second picture is nearer to the second depth; the third has none.
  rgb, depth = (1.000, 1.030, 2.0), (0.990, 1.032, 2.05)
  for name, stamps in (("rgb", rgb), ("depth", depth)):
    folder.mkdir(parents=True, exist_ok=True)
    lines = [f"{t:.6f} {name}/{t:.6f}.png" for t in stamps]
    (folder / f"{name}.txt").write_text("# a comment\n" + "\n".join(lines))
  for i, (one, other) in enumerate(zip(rgb, depth)):
    picture(folder / f"rgb/{one:.6f}.png", i)
    found = metres(i)
    scaled(folder / f"depth/{other:.6f}.png", found, 5000)
    if i < 2:
      camera = (517.3, 516.5, 319.1, 255.8)
      name = f"{folder.name}/{one:.6f}"
      truth[name] = Truth(found, 1 / 5000, camera=camera)
  return truth


ADE = {0: "", 1: "wall", 3: "sky", 150: "flag"}


def ade_labels(i):
  ids = np.full((HEIGHT, WIDTH), 1, np.uint8)
  ids[:2], ids[4:, :4], ids[4:, 4 + i :] = 3, 0, 150
  return ids


def ade20k(root):
  truth = {}
  for part, tag, count in (("training", "train", 4), ("validation", "val", 1)):
    for i in range(count):
      name = f"ADE_{tag}_{i + 1:08d}"
      picture(root / "images" / part / f"{name}.jpg", i)
      folder = root / "annotations" / part
      folder.mkdir(parents=True, exist_ok=True)
      ids = ade_labels(i)
      Image.fromarray(ids).save(folder / f"{name}.png")
      truth[f"{part}/{name}"] = Truth(
        classes=np.vectorize(ADE.get, otypes=[object])(ids)
      )
  return truth


def ade20k_full(root):
  """The full set, with the toolkit's table of it."""
  truth, of_full = {}, {1: 2978, 3: 2420, 150: 874, 0: 77}
  folder = root / "images/ADE/training/home/attic"
  ids = ade_labels(1)
  full = np.vectorize(of_full.get)(ids)
  red, green = full // 256 * 10 + 3, full % 256  # below ten: other things
  folder.mkdir(parents=True, exist_ok=True)
  rgb = np.stack([red, green, full % 7], -1).astype(np.uint8)
  Image.fromarray(rgb).save(folder / "ADE_train_00000001_seg.png")
  picture(folder / "ADE_train_00000001.jpg")
  lines = [f"{own} {of_full[own]}" for own in (1, 3, 150)]
  (root / "mapFromADE.txt").write_text("\n".join(lines))
  name = "images/ADE/training/home/attic/ADE_train_00000001"
  truth[name] = Truth(classes=np.vectorize(ADE.get, otypes=[object])(ids))
  return truth


NYU40 = {-1: "", 0: "", 1: "wall", 2: "floor", 40: "other prop"}
# A tilted lens: the third column leans.
TILTED = ((0.58, 0.0, -0.07), (0.0, 0.43, 0.09), (0.0, 0.004, -1.004))


def hypersim(root):
  truth, rows = {}, []
  uv = np.stack(
    [
      *np.meshgrid(
        -1 + (2 * np.arange(WIDTH) + 1) / WIDTH,
        1 - (2 * np.arange(HEIGHT) + 1) / HEIGHT,
      ),
      np.ones((HEIGHT, WIDTH)),
    ],
    -1,
  )
  rays = np.einsum("ij,hwj->hwi", TILTED, uv)
  for i, split in enumerate(("train", "val", "test")):
    scene = f"ai_00{i + 1}_001"
    planar = metres(i, 2, 9, holes=0)
    distance = planar * np.linalg.norm(rays, axis=-1) / -rays[..., 2]
    distance[0, 0] = np.nan
    ids = np.full((HEIGHT, WIDTH), 1, np.int16)
    ids[:2], ids[2], ids[3], ids[4] = 40, -1, 0, 2
    images = root / scene / "images"
    geometry = images / "scene_cam_00_geometry_hdf5"
    colour = images / "scene_cam_00_final_hdf5"
    entities = np.where(ids == 1, -1, 7).astype(np.int32)
    light = np.random.default_rng(i).uniform(0, 3, (HEIGHT, WIDTH, 3))
    for folder, kind, array in (
      (geometry, "depth_meters", distance.astype(np.float16)),
      (geometry, "semantic", ids),
      (geometry, "render_entity_id", entities),
      (colour, "color", light.astype(np.float16)),
    ):
      folder.mkdir(parents=True, exist_ok=True)
      with h5py.File(folder / f"frame.0000.{kind}.hdf5", "w") as file:
        file.create_dataset("dataset", data=array, compression="gzip")
    rows.append((scene, "cam_00", 0, True, "", split))
    planar[0, 0] = 0
    names = np.vectorize(NYU40.get, otypes=[object])(ids)
    truth[f"{scene}/cam_00/0000"] = Truth(planar, 9 / 1024, names)
  rows.append(("ai_009_009", "cam_00", 1, False, "CONTENT FLAGGED", ""))
  table(
    root / "metadata_images_split_scene_v1.csv",
    "scene_name,camera_name,frame_id,included_in_public_release,exclude_reason,"
    "split_partition_name",
    rows,
  )
  columns = ",".join(
    f"M_cam_from_uv_{i}{j}" for i in range(3) for j in range(3)
  )
  numbers = [each for row in TILTED for each in row]
  table(
    root / "metadata_camera_parameters.csv",
    f"scene_name,settings_output_img_height,{columns}",
    [(f"ai_00{i + 1}_001", float(HEIGHT), *numbers) for i in range(3)],
  )
  return truth


def table(path, columns, rows):
  with path.open("w", newline="") as file:
    csv.writer(file).writerows([columns.split(","), *rows])


COLORS = "Category r g b\nTerrain 210 0 200\nSky 90 200 255\nCar 255 127 80\n"


def vkitti(root):
  truth = {}
  for i, scene in enumerate(("Scene01", "Scene02", "Scene06", "Scene18")):
    where = f"{scene}/clone"
    frames = {
      kind: root / f"vkitti_2.0.3_{kind}" / where / "frames" / kind / "Camera_0"
      for kind in ("rgb", "depth", "classSegmentation")
    }
    picture(frames["rgb"] / "rgb_00000.jpg", i)
    depth = metres(i, 3, 200, holes=0)
    stored = np.rint(depth * 100)
    stored[0], depth[0] = 65_535, 0  # sky
    words(frames["depth"] / "depth_00000.png", stored)
    rgb = np.full((HEIGHT, WIDTH, 3), (210, 0, 200), np.uint8)
    rgb[0], rgb[3:, 2:5] = (90, 200, 255), (255, 127, 80)
    names = np.full((HEIGHT, WIDTH), "Terrain", object)
    names[0], names[3:, 2:5] = "Sky", "Car"
    frames["classSegmentation"].mkdir(parents=True)
    Image.fromarray(rgb).save(frames["classSegmentation"] / "classgt_00000.png")
    text = root / "vkitti_2.0.3_textgt" / where
    text.mkdir(parents=True)
    (text / "colors.txt").write_text(COLORS)
    truth[f"{where}/Camera_0/00000"] = Truth(
      depth, 0.01, names, (725.0087, 725.0087, 621.0, 187.5)
    )
  return truth


def diode(root):
  truth = {}
  for i in range(4):
    part = "val" if i == 3 else "train"
    stem = f"{part}/outdoor/scene_{i:05d}/scan_{i:05d}/{i:05d}_{i:05d}"
    stem += "_outdoor_000_010"
    picture(root / f"{stem}.png", i)
    depth = metres(i, 2, 250, holes=0)
    np.save(root / f"{stem}_depth.npy", depth.astype(np.float32)[..., None])
    mask = np.ones((HEIGHT, WIDTH))
    mask[2], depth[2] = 0, 0
    np.save(root / f"{stem}_depth_mask.npy", mask)
    truth[stem] = Truth(depth, 1e-4)
  return truth


def sunrgbd(root):
  truth = {}
  for i, folder in enumerate(
    (
      "kv1/NYUdata/NYU0001",
      "kv2/kinect2data/000002",
      "xtion/sun3ddata/a/000003",
    )
  ):
    depth = metres(i, 1, 7.9)
    turned = np.rint(depth * 1000).astype(np.uint16)
    words(root / folder / "depth_bfx/x.png", (turned << 3) | (turned >> 13))
    words(root / folder / "depth/x.png", np.zeros((HEIGHT, WIDTH)))
    picture(root / folder / "image/x.jpg", i)
    (root / folder / "intrinsics.txt").write_text(
      "518.8 0 325.5 0 519.4 253.7 0 0 1"
    )
    truth[folder] = Truth(depth, 0.001, camera=(518.8, 519.4, 325.0, 253.2))
  return truth


def scannet(root):
  truth = {}
  for i in range(4):
    scene = f"scene000{i}_00"
    folder = root / scene
    # Colour has another size, and an aspect that is alike but for a pixel.
    picture(folder / "color/0.jpg", i, height=24, width=32)
    depth = metres(i)
    scaled(folder / "depth/0.png", depth, 1000)
    labels = np.full((HEIGHT, WIDTH), 1)
    labels[0], labels[1], labels[2] = 0, 1163, 21
    if i == 3:  # as scannet_frames_25k has it: 8 bits, NYU40 already
      labels[1], labels[2] = 39, 7
      (folder / "label").mkdir()
      Image.fromarray(labels.astype(np.uint8)).save(folder / "label/0.png")
    else:
      words(folder / "label-filt/0.png", labels)
    names = np.full((HEIGHT, WIDTH), "wall", object)
    names[0], names[1], names[2] = "", "other furniture", "table"
    camera = (
      "intrinsics_color.txt" if i == 3 else "intrinsic/intrinsic_color.txt"
    )
    (folder / camera).parent.mkdir(exist_ok=True)
    (folder / camera).write_text(
      "1170 0 647 0\n0 1170 483 0\n0 0 1 0\n0 0 0 1\n"
    )
    truth[f"{scene}/0"] = Truth(depth, 0.001, names, (1170, 1170, 647.5, 483.5))
  (root / "scannetv2-labels.combined.tsv").write_text(
    "id\traw_category\tnyu40id\n1\twall\t1\n21\ttable\t7\n1163\tobject\t39\n"
  )
  for part, ids in (("train", (0, 1, 2)), ("val", (3,))):
    lines = "".join(f"scene000{i}_00\n" for i in ids)
    (root / f"scannetv2_{part}.txt").write_text(lines)
  return truth


def arkitscenes(root):
  truth = {}
  for i in range(4):
    part = "Validation" if i == 3 else "Training"
    folder = root / "raw" / part / f"4106902{i}"
    name = f"4106902{i}_305.377"
    picture(folder / f"lowres_wide/{name}.png", i, height=24, width=32)
    depth = metres(i)
    scaled(folder / f"lowres_depth/{name}.png", depth, 1000)
    sure = np.full((HEIGHT, WIDTH), 2, np.uint8)
    (folder / "confidence").mkdir()
    Image.fromarray(sure).save(folder / f"confidence/{name}.png")
    (folder / "lowres_wide_intrinsics").mkdir()
    (folder / f"lowres_wide_intrinsics/{name}.pincam").write_text(
      "256 192 212.9 212.9 126.6 95.1"
    )
    truth[f"4106902{i}/{name}"] = Truth(
      depth, 0.001, camera=(212.9, 212.9, 127.1, 95.6)
    )
  return truth


WRITERS = {
  "ade20k": ade20k,
  "arkitscenes": arkitscenes,
  "diode": diode,
  "hypersim": hypersim,
  "kitti": kitti,
  "nyu": nyu,
  "scannet": scannet,
  "sunrgbd": sunrgbd,
  "tum": tum,
  "vkitti": vkitti,
}


def expected(truth, path, source):
  """A file as the command of tests/conformance/samples.py reads it."""
  path.write_text(json.dumps({source: truth}))
