"""Data from files: what ``--data`` takes.

    calib.npz        one array an input, under the input's name; each row along the first axis is a sample
    calib.npy        the same for a model of one input
    folder           of .npz or .npy files (each as above), or of images, in the order of their names
    module:callable  your own code: the callable, called without arguments, returns whatever ``feeds_from`` takes

Images go through a preprocessing (``preprocess.py``): the one given, or the model's own side file. There is no default:
a wrong one gives numbers that look right.

Pickles are refused: opening one runs code. ``module:callable`` imports a module that the user names; nothing else is
executed. What takes more than 256 MiB is read from the disk at every pass, so a folder may be larger than the memory.
"""

from __future__ import annotations

import importlib
import sys
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from graphopt.errors import DataError
from graphopt.model import Model
from graphopt.runtime.conform import note
from graphopt.runtime.feeds import Feeds, feeds_from, from_passes
from graphopt.runtime.inputs import InputSpec, input_specs
from graphopt.runtime.preprocess import Preprocess, parse_preprocess, read_side_file, side_file
from graphopt.runtime.rows import Cutter

IMAGES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".webp"})
ARRAYS = frozenset({".npz", ".npy"})
LABELS = frozenset({"label", "labels", "y"})
"""Keys of an .npz file that hold what a model should answer; calibration does not look at them."""


def open_data(spec: str, model: Model, preprocess: str | None = None) -> Feeds:
    """The feeds that ``spec`` names.

    Args:
        spec: a path, or ``module:callable``.
        model: the model that the data is for.
        preprocess: for images: a line, a preset or a side file (``parse_preprocess``); the model's own side file if None.

    Raises:
        DataError: GO801 to GO814: no such file, damaged, pickled, empty, or it does not fit the model.
    """
    path = Path(spec)
    if not path.exists():
        module, colon, name = spec.partition(":")
        if colon and module.replace(".", "").isidentifier() and name.isidentifier():
            _refuse_preprocess(preprocess, spec)
            return _from_callable(module, name, model)
        raise DataError(
            "GO801", spec, "no such file or folder", "give .npz, .npy, a folder of them or of images, or module:callable"
        )
    specs = input_specs(model)
    cutter = Cutter({spec.name: spec for spec in specs}, path.name)
    if path.is_dir():
        return _from_folder(path, model, specs, cutter, preprocess)
    if path.suffix.lower() not in ARRAYS:
        if path.suffix.lower() in IMAGES:
            return _from_images([path], model, specs, cutter, preprocess, path.name)
        raise DataError("GO802", spec, f"cannot take data from a '{path.suffix}' file", "give .npz, .npy, or a folder")
    _refuse_preprocess(preprocess, spec)
    feeds = feeds_from(read_arrays(path, specs, cutter.notes), model, source=path.name)
    feeds.notes[:0] = cutter.notes
    return feeds


def _refuse_preprocess(preprocess: str | None, spec: str) -> None:
    if preprocess is not None:
        raise DataError("GO813", spec, "a preprocessing is for images; these are arrays", "leave --preprocess out")


def read_arrays(path: Path, specs: Sequence[InputSpec], notes: list[str]) -> dict[str, NDArray[Any]]:
    """The arrays of one .npz or .npy file under the names of inputs. Raises DataError GO801, GO802, GO804 or GO809."""
    content = _load(path)
    if isinstance(content, np.ndarray):
        return {_only(specs, path).name: content}
    names = {spec.name for spec in specs}
    arrays: dict[str, NDArray[Any]] = {}
    for key, array in content.items():
        if key not in names and key.lower() in LABELS:
            note(notes, f"'{key}' of {path.name} is not used: it is no input of the model")
        elif key not in names and key == "arr_0" and len(content) == 1 and len(specs) == 1:
            arrays[specs[0].name] = array
        else:
            arrays[key] = array
    if not arrays:
        raise DataError("GO808", path.name, "holds no arrays", f"store one under '{specs[0].name}'" if specs else "")
    return arrays


def _load(path: Path) -> NDArray[Any] | dict[str, NDArray[Any]]:
    """A file's arrays, never through pickle."""
    try:
        with path.open("rb") as file:
            loaded: Any = np.load(file, allow_pickle=False)
            if isinstance(loaded, np.ndarray):
                return cast(NDArray[Any], loaded)
            return {str(key): np.asarray(loaded[key]) for key in loaded.files}
    except (ValueError, zipfile.BadZipFile, zlib.error, EOFError, KeyError, NotImplementedError) as error:
        if "allow_pickle" in str(error) or "pickle" in str(error).lower():
            if _looks_like_numpy(path):
                hint = "store numbers: np.savez(path, name=np.asarray(values, np.float32))"
                raise DataError("GO809", path.name, "holds pickled objects, which are not opened", hint) from None
            why = f"is not {'an .npz' if path.suffix == '.npz' else 'a .npy'} file"
            raise DataError("GO801", path.name, why, "write it with numpy.savez or numpy.save") from None
        why = f"cannot be read: it is damaged ({' '.join(str(error).split())})"
        raise DataError("GO801", path.name, why, "write it again") from None
    except OSError as error:
        raise DataError("GO801", path.name, f"cannot be read: {error.strerror or error}", "check the file") from None


def _looks_like_numpy(path: Path) -> bool:
    with path.open("rb") as file:
        start = file.read(6)
    return start in (b"\x93NUMPY",) or start[:4] == b"PK\x03\x04" or start[:1] == b"\x80"


def _only(specs: Sequence[InputSpec], path: Path) -> InputSpec:
    if len(specs) != 1:
        inputs = ", ".join(f"'{spec.name}'" for spec in specs)
        why = f"one array, but the model has {len(specs)} inputs"
        raise DataError("GO802", path.name, why, f"an .npz file with {inputs}")
    return specs[0]


def _from_folder(path: Path, model: Model, specs: Sequence[InputSpec], cutter: Cutter, preprocess: str | None) -> Feeds:
    files = sorted(p for p in path.iterdir() if p.is_file() and not p.name.startswith("."))
    images = [p for p in files if p.suffix.lower() in IMAGES]
    arrays = [p for p in files if p.suffix.lower() in ARRAYS]
    if images and arrays:
        why = f"holds both images ({images[0].name}) and arrays ({arrays[0].name})"
        raise DataError("GO802", str(path), why, "use a folder for each")
    if images:
        return _from_images(images, model, specs, cutter, preprocess, f"{path.name}/ ({len(images)} images)")
    if not arrays:
        why = "holds no images and no arrays" if files else "is empty"
        raise DataError("GO808", str(path), why, f"it should hold {', '.join(sorted(IMAGES | ARRAYS))} files")
    _refuse_preprocess(preprocess, str(path))

    def start() -> Iterator[object]:
        return (_named(read_arrays(file, specs, cutter.notes)) for file in arrays)

    return from_passes(start, cutter, specs, f"{path.name}/ ({len(arrays)} files)", keep=True)


def _named(arrays: Mapping[str, NDArray[Any]]) -> object:
    return arrays


def _from_images(
    files: Sequence[Path], model: Model, specs: Sequence[InputSpec], cutter: Cutter, preprocess: str | None, name: str
) -> Feeds:
    if len(specs) != 1:
        why = f"images fill one input, but the model has {len(specs)}"
        raise DataError("GO802", cutter.where, why, "give .npz files, or module:callable")
    steps = _steps(model, preprocess, cutter)
    note(cutter.notes, f"images: {steps}")
    for file in files:
        _open_image(file).close()

    def start() -> Iterator[object]:
        return (_read_image(file, steps, specs[0]) for file in files)

    return from_passes(start, cutter, specs, name, keep=True)


def _steps(model: Model, preprocess: str | None, cutter: Cutter) -> Preprocess:
    if preprocess is not None:
        return parse_preprocess(preprocess)
    beside = side_file(Path(model.path)) if model.path is not None else None
    if beside is None:
        hint = "--preprocess imagenet, or --preprocess resize=256,crop=224,mean=127.5,std=127.5,order=rgb,layout=nchw"
        raise DataError("GO814", cutter.where, "images need a preprocessing, and the model carries none", hint)
    note(cutter.notes, f"preprocessing of {beside.name}")
    return read_side_file(beside)


def _open_image(file: Path) -> Any:
    """An image, its header read. The file stays open until the pixels are read."""
    try:
        from PIL import Image, UnidentifiedImageError
    except ImportError:
        raise DataError("GO810", file.name, "images need Pillow", "pip install pillow") from None
    try:
        return Image.open(file)
    except (UnidentifiedImageError, OSError, ValueError, Image.DecompressionBombError) as error:
        raise _unreadable(file, error) from None


def _read_image(file: Path, steps: Preprocess, spec: InputSpec) -> NDArray[Any]:
    with _open_image(file) as image:
        try:
            image.load()
        except (OSError, ValueError, SyntaxError) as error:
            raise _unreadable(file, error) from None
        values = steps(image, file.name)
    # Floats are never made integers elsewhere; these came from bytes, and are whole as long as nothing was scaled.
    whole = spec.dtype.kind in "iu" and np.array_equal(values, np.rint(values))
    return values.astype(np.int64) if whole else values


def _unreadable(file: Path, error: Exception) -> DataError:
    reason = " ".join(str(error).split()).replace(str(file), file.name)
    return DataError("GO810", file.name, f"is no image that can be read: {reason}", "remove it, or save it again")


def _from_callable(module: str, name: str, model: Model) -> Feeds:
    """``module:callable`` with the current folder on the import path, as ``python -m`` has it."""
    spec = f"{module}:{name}"
    here = str(Path.cwd())
    added = here not in sys.path
    if added:
        sys.path.insert(0, here)
    try:
        loaded = importlib.import_module(module)
    except ModuleNotFoundError as error:
        missing = error.name or module
        hint = "check the name; the current folder is searched too" if missing == module else f"pip install {missing}?"
        raise DataError("GO811", spec, f"no module named '{missing}'", hint) from None
    except Exception as error:
        raise DataError("GO811", spec, f"importing it failed: {_told(error)}", "mend the module") from error
    finally:
        if added and here in sys.path:
            sys.path.remove(here)
    function = getattr(loaded, name, None)
    if not callable(function):
        why = f"'{module}' has no callable '{name}'" if function is None else f"'{name}' is not callable"
        raise DataError("GO811", spec, why, "name a function that takes no arguments and returns arrays or dicts")
    try:
        result = function()
    except Exception as error:
        raise DataError("GO812", spec, f"calling it failed: {_told(error)}", "mend the callable") from error
    if not isinstance(result, (Mapping, np.ndarray, Iterable)) and not hasattr(result, "get_next"):
        kind = type(result).__qualname__
        raise DataError("GO812", spec, f"returned a {kind}", "return an array, a dict of arrays, or an iterable of them")
    return feeds_from(cast(object, result), model, source=spec)


def _told(error: Exception) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())
