"""What the commands of rsseg ask for, as QGIS shows it. Only data: nothing here needs QGIS."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Option:
    """One thing that a command asks for."""

    flag: str  # as rsseg calls it; empty for what it knows by its place
    kind: str  # one of those that algorithms.py makes parameters of
    text: str
    help: str = ""
    default: Any = None  # rsseg's own, which need not be said
    choices: tuple[str, ...] = ()
    least: float | None = None
    ending: str = ""  # of file names
    parent: str = ""  # name of the layer that has the fields
    needed: bool = False
    advanced: bool = False
    called: str = ""  # in QGIS, if not like the flag

    @property
    def name(self) -> str:
        """In QGIS, for models and scripts."""
        return self.called or self.flag.lstrip("-").replace("-", "_").upper()

    def said(self, values: list[str]) -> list[str]:
        """On the command line."""
        return [word for value in values for word in (self.flag, value) if word]


@dataclass(frozen=True)
class Command:
    """A command of rsseg, an algorithm of QGIS."""

    name: str
    title: str
    about: str
    options: tuple[Option, ...]
    figures: tuple[tuple[str, str, str], ...] = ()  # (name in QGIS, key of the report, words) of numbers that come out
    one_of: tuple[str, ...] = ()  # of these names at least one is needed

    @property
    def outputs(self) -> tuple[Option, ...]:
        """The files that it writes."""
        return tuple(option for option in self.options if option.kind in ("new raster", "new polygons", "new file"))


DEVICE = Option(
    "--device",
    "text",
    "Where networks run",
    "auto, cpu, cuda, cuda:1 or mps. auto: a GPU when there is one.",
    default="auto",
    advanced=True,
)
SEED = Option(
    "--seed",
    "whole number",
    "Seed of random choices",
    "The same seed gives the same result on a CPU.",
    least=0,
    advanced=True,
)
BANDS = Option(
    "--bands",
    "text",
    "Bands to use",
    "By name or number: red,green or red=3,nir=4. Left empty: all of them.",
    advanced=True,
)
ALPHA = Option(
    "--alpha",
    "choice",
    "Is a band called alpha a mask?",
    "auto: only when it holds nothing but 0 and its maximum.",
    default="auto",
    choices=("auto", "yes", "no"),
    advanced=True,
)
AOI = Option("--aoi", "polygons", "Only inside these polygons", "In any coordinate system.")
CLASSES = Option(
    "--classes",
    "file",
    "Names, colours and merging of classes",
    "A .csv, .toml or .qml file.",
    advanced=True,
)
CLASS_FIELD = Option(
    "--class-field", "field", "Field with the class", "Left empty: found by its name.", parent="LABELS"
)
BACKGROUND = Option(
    "--background",
    "switch",
    "Polygons: the ground that none covers is a class, 'background'",
    default=False,
    advanced=True,
)
SETTINGS = Option(
    "--set",
    "lines",
    "Settings of the method",
    "One NAME=VALUE a line. A wrong name lists them all.",
    advanced=True,
    called="SETTINGS",
)
CREATION = Option(
    "--co",
    "lines",
    "Creation options of rasters",
    "One NAME=VALUE a line, as for GDAL: COMPRESS=ZSTD.",
    advanced=True,
    called="CREATION_OPTIONS",
)
ENCODER_WEIGHTS = Option(
    "--encoder-weights",
    "file",
    "Published weights of the encoder",
    "A .safetensors, .npz or .pth file.",
    advanced=True,
)

ADAPT = Command(
    "adapt",
    "Learn a model",
    "Learns a model from labelled scenes, and adapts it to scenes that nobody has labelled: another place, sensor, "
    "season or size of pixels. In a folder, labels lie beside their scenes (town_labels.tif or town_labels.gpkg beside "
    "town.tif), or in images/ and labels/ with the same names. Learning takes minutes on a laptop; a limit in minutes "
    "is kept. The model is one file, which Map a raster with a model takes.",
    (
        Option("--source", "folder", "Labelled scenes: a folder", "With the labels beside the scenes."),
        Option("--source", "rasters", "Labelled scenes: layers", "With the labels below.", called="SOURCE_LAYERS"),
        Option(
            "--labels",
            "labels",
            "Labels of all labelled scenes",
            "Polygons or a raster; left empty where labels lie beside the scenes.",
        ),
        CLASS_FIELD,
        Option("--target", "folder", "Scenes to map: a folder", "Without labels; the model is adapted to them."),
        Option("--target", "rasters", "Scenes to map: layers", called="TARGET_LAYERS"),
        Option(
            "--method",
            "choice",
            "How to learn",
            "auto: self-training where there are scenes to adapt to, source-only without.",
            default="auto",
            choices=("auto", "self-training", "st-dasegnet", "da-stc", "ktda", "source-only"),
        ),
        Option(
            "--minutes", "number", "Be done in so many minutes", "Left empty: as long as the steps take.", least=0.1
        ),
        Option("--steps", "whole number", "Steps", "Left empty: enough for a few minutes on a CPU.", least=1),
        Option(
            "--output",
            "new file",
            "Model",
            "A file that holds classes and bands too.",
            needed=True,
            ending="safetensors",
        ),
        Option("--init", "file", "Start from an earlier model", ending="safetensors", advanced=True),
        Option(
            "--encoder",
            "text",
            "Encoder",
            "tiny, mobilenet-v2, mit-b0 to mit-b5, or a folder with a backbone of transformers. Left empty: tiny, or "
            "that of the earlier model.",
            advanced=True,
        ),
        ENCODER_WEIGHTS,
        Option(
            "--teacher",
            "text",
            "Teacher of ktda",
            "A vision transformer, DINOv2 say: its folder or model id. none: the same network without a teacher.",
            advanced=True,
        ),
        Option("--head", "choice", "Head", default="auto", choices=("auto", "all-mlp", "uper"), advanced=True),
        CLASSES,
        BACKGROUND,
        Option(
            "--target-labels",
            "labels",
            "A few labels of the scenes to map",
            "Only if you have some. Nothing else reads labels of these scenes.",
            advanced=True,
        ),
        Option("--source-bands", "text", "Bands of the labelled scenes", BANDS.help, advanced=True),
        Option("--target-bands", "text", "The same bands of the scenes to map", advanced=True),
        Option(
            "--gsd",
            "number",
            "Size of a pixel to learn at, in metres",
            "Left empty: the finest of all scenes, but at least half of the coarsest.",
            least=0.001,
            advanced=True,
        ),
        Option(
            "--normalise",
            "choice",
            "Scale of bands",
            "robust: by the statistics of the scenes.",
            default="robust",
            choices=("robust", "fixed"),
            advanced=True,
        ),
        Option(
            "--match",
            "choice",
            "How bands are brought to the statistics of the labelled scenes",
            "default: what suits best without labels.",
            default="default",
            choices=("default", "auto", "none", "mean-std", "coral"),
            advanced=True,
        ),
        Option("--batch", "whole number", "Crops a step", least=1, advanced=True),
        Option("--crop-px", "whole number", "Side of a crop, in pixels", least=32, advanced=True),
        SEED,
        SETTINGS,
        DEVICE,
    ),
    (("SCORE", "source_validation_miou", "mIoU on labelled ground held back"),),
    ("SOURCE", "SOURCE_LAYERS"),
)

SEGMENT = Command(
    "segment",
    "Map a raster with a model",
    "Maps a raster of any size. The map lies on exactly the grid of the raster, or on the part of it that the polygons "
    "cover; nodata stays nodata. It opens in the classes' names and colours.",
    (
        Option("", "raster", "Raster", needed=True, called="INPUT"),
        Option("--model", "file", "Model", "Written by Learn a model.", needed=True, ending="safetensors"),
        AOI,
        Option(
            "--tta",
            "switch",
            "Average over mirror images",
            "A little better, and takes four times as long.",
            default=False,
        ),
        Option("--output", "new raster", "Map", needed=True),
        Option("--confidence", "new raster", "Confidence", "Probability of the class that won."),
        Option("--probabilities", "new raster", "Probabilities", "A band for each class."),
        BANDS,
        ALPHA,
        Option(
            "--gsd",
            "number",
            "Size on the ground to map at, in metres",
            "Left empty: that of the model.",
            advanced=True,
        ),
        Option("--tile-px", "whole number", "Side of a tile at most, in pixels", default=544, least=64, advanced=True),
        Option(
            "--overlap-px",
            "whole number",
            "Pixels over which tiles fade into each other",
            "Left empty: by the encoder.",
            least=0,
            advanced=True,
        ),
        Option("--batch", "whole number", "Tiles at a time", "Left empty: by the device.", least=1, advanced=True),
        Option(
            "--precision",
            "choice",
            "Numbers the network uses",
            default="auto",
            choices=("auto", "float32", "bfloat16"),
            advanced=True,
        ),
        DEVICE,
        CREATION,
    ),
)

DETECT_CHANGE = Command(
    "detect-change",
    "Detect change",
    "Finds what changed between two dates. Nothing is learned before, and no labels are needed. The dates may differ "
    "in light, season, size of pixels and coordinate system; they are compared on the coarser one's pixels. The mask "
    "holds 0 for unchanged, 1 for changed, 255 for nothing. The score is no probability: it is one half at the "
    "threshold.",
    (
        Option("", "raster", "Earlier date", needed=True, called="BEFORE"),
        Option("", "raster", "Later date", needed=True, called="AFTER"),
        Option(
            "--method",
            "choice",
            "Method",
            "metric-cd: the best maps; learns on this pair what stands out. classical: statistics alone, a third of "
            "the time. cva: the quickest. metric-cd-paper: as published, for small pairs only.",
            default="metric-cd",
            choices=("metric-cd", "classical", "ir-mad", "cva", "metric-cd-paper"),
        ),
        Option(
            "--threshold",
            "text",
            "Threshold",
            "auto, otsu, kittler, null (1 % of what did not change is flagged), or a score from 0 to 1.",
            default="auto",
        ),
        Option(
            "--min-area", "number", "Smallest patch, in m²", "Smaller ones count as unchanged.", default=0.0, least=0
        ),
        AOI,
        Option("--output", "new raster", "Change", needed=True),
        Option("--polygons", "new polygons", "Changed polygons", "With area, score and direction."),
        Option("--probability", "new raster", "Change score"),
        BANDS,
        Option("--before-bands", "text", "Bands of the earlier date", "Where the dates differ.", advanced=True),
        Option("--after-bands", "text", "Bands of the later date", advanced=True),
        Option(
            "--before-mask",
            "mask",
            "Mask of the earlier date",
            "Clouds, say: what it marks is left out. Left empty below: all but 0.",
            advanced=True,
        ),
        Option("", "values", "Values that the mask marks", "3,8-10", advanced=True, called="BEFORE_MASK_VALUES"),
        Option("--after-mask", "mask", "Mask of the later date", advanced=True),
        Option("", "values", "Values that the mask marks", "3,8-10", advanced=True, called="AFTER_MASK_VALUES"),
        Option(
            "--before-classes",
            "raster",
            "Land cover of the earlier date",
            "Polygons get its class as 'from'.",
            advanced=True,
        ),
        Option(
            "--after-classes",
            "raster",
            "Land cover of the later date",
            "Polygons get its class as 'to'.",
            advanced=True,
        ),
        Option(
            "--align",
            "choice",
            "How the dates are brought together",
            "auto: grids and a shift; grid: no shift; off: pixel by pixel, wherever they lie.",
            default="auto",
            choices=("auto", "grid", "off"),
            advanced=True,
        ),
        Option(
            "--max-shift-px",
            "number",
            "Largest shift, in pixels",
            "Dates that lie further apart are refused.",
            default=5.0,
            least=0,
            advanced=True,
        ),
        Option("--steps", "whole number", "Steps at most", least=1, advanced=True),
        Option("--minutes", "number", "Stop learning after so many minutes", least=0.1, advanced=True),
        Option(
            "--encoder",
            "text",
            "Encoder",
            "A network whose features are compared too: squeezenet, mobilenet-v2 or vgg16. It needs its weights.",
            advanced=True,
        ),
        ENCODER_WEIGHTS,
        ALPHA,
        SEED,
        SETTINGS,
        DEVICE,
        CREATION,
    ),
    (
        ("CHANGED_SHARE", "changed_share", "Share of the ground that changed"),
        ("CHANGED_AREA_M2", "changed_area_m2", "Area that changed, in m²"),
    ),
)

VECTORIZE = Command(
    "vectorize",
    "Make polygons of a map",
    "Makes a clean polygon layer of a map. Lines are as straight as the pixels allow, and neighbours share their "
    "borders: no gap, no overlap. Each polygon has its class, area and perimeter; a GeoPackage opens in the classes' "
    "names and colours.",
    (
        Option("", "raster", "Map", needed=True, called="INPUT"),
        Option(
            "--min-area",
            "text",
            "Smallest polygon, in m²",
            "Smaller ones are merged into the neighbour with the longest shared border: 500, or 500,building=25.",
        ),
        Option(
            "--fill-holes",
            "number",
            "Fill holes up to, in m²",
            "Holes without any class.",
            default=0.0,
            least=0,
        ),
        Option(
            "--simplify",
            "number",
            "Simplify, in metres",
            "Leaves out corners that enclose less than its square.",
            default=0.0,
            least=0,
        ),
        Option("--regularize", "text", "Classes that get right angles", "building"),
        Option("--exact", "switch", "Leave the pixels' edges as they are", default=False),
        Option("--output", "new polygons", "Polygons", needed=True),
        Option("--classes", "text", "Only these classes", "By name or number: building,water.", advanced=True),
        Option(
            "--confidence",
            "raster",
            "Confidence",
            "Adds mean, minimum and 10th percentile of this raster to each polygon.",
            advanced=True,
        ),
        Option(
            "--remap",
            "file",
            "Merge, rename or leave out classes",
            "A CSV with lines of from,to[,color].",
            ending="csv",
            advanced=True,
        ),
        Option("--crs", "crs", "Coordinate system", "Left empty: that of the map.", advanced=True),
    ),
    (("POLYGONS", "polygons", "Number of polygons"),),
)

EVALUATE = Command(
    "evaluate",
    "Score a map against the truth",
    "Compares a map with the truth: a raster or polygons. Each labelled pixel of a truth raster counts once. Only "
    "classes that occur in the truth enter the means.",
    (
        Option("", "raster", "Map, or score", needed=True, called="PREDICTION"),
        Option("", "labels", "Truth", "Polygons or a raster.", needed=True, called="TRUTH"),
        Option("--class-field", "field", "Field with the class", CLASS_FIELD.help, parent="TRUTH"),
        Option(
            "--boundary",
            "whole number",
            "Leave out pixels along class borders",
            "So many on either side.",
            default=0,
            least=0,
        ),
        Option("--ignore", "list", "Classes of the truth to leave out", "By name or number, with commas between."),
        Option("--confidence", "raster", "Confidence", "How sure the map is: is it right that often?", advanced=True),
        CLASSES,
        Option(
            "--prediction-classes",
            "file",
            "What the map's numbers mean",
            "If not what the truth's do. A .csv, .toml or .qml file.",
            advanced=True,
        ),
        BACKGROUND,
        Option("--positive", "text", "Scores: the class they are for", advanced=True),
        Option(
            "--threshold",
            "number",
            "Scores: from here on a pixel counts",
            "Left empty: 0.5. Given, the map is a score.",
            advanced=True,
        ),
        Option("", "new table", "Figures of the classes", needed=True, called="OUTPUT"),
    ),
    (
        ("MIOU", "miou", "mIoU"),
        ("F1", "f1_macro", "F1, mean of the classes"),
        ("ACCURACY", "accuracy", "Accuracy"),
        ("AUC", "auc", "AUC, of a score"),
        ("AVERAGE_PRECISION", "average_precision", "Average precision, of a score"),
        ("CALIBRATION_ERROR", "ece", "Calibration error of the confidence"),
    ),
)

COMMANDS = (ADAPT, SEGMENT, DETECT_CHANGE, VECTORIZE, EVALUATE)
