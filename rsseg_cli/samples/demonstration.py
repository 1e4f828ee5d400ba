"""What `rsseg demo` puts into its folder."""

from pathlib import Path

from rsseg_cli.progress import Track
from rsseg_cli.raster.write import create_labels
from rsseg_cli.samples.colours import ColourModel
from rsseg_cli.samples.folder import SCHEME, grid_of, write_samples
from rsseg_cli.samples.scenes import DEFAULT_SIZE_PX, SampleScene


def draw(folder: Path, size_px: int | None, overwrite: bool, track: Track) -> list[str]:
    """The sample scenes, and maps of them by colour alone; names within the folder."""
    made: list[Path] = []
    scenes: list[SampleScene] = []
    for scene, paths in write_samples(folder, size_px or DEFAULT_SIZE_PX, overwrite=overwrite, track=track):
        scenes.append(scene)
        made += paths
    learned, unseen = scenes[:2], scenes[2:]
    model = ColourModel(learned)
    (folder / "maps").mkdir(exist_ok=True)
    for scene in unseen:
        path = folder / "maps" / f"{scene.name}_colours.tif"
        with create_labels(path, grid_of(scene), SCHEME, overwrite=overwrite) as writer:
            writer.write(model.map(scene), grid_of(scene).window)
        made.append(path)
    return [path.relative_to(folder).as_posix() for path in made]
