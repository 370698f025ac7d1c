"""The kinds of damage, one file a room of the model. Importing this registers them all."""

from tests.damage.kinds import (  # noqa: F401
    attributes,
    bombs,
    depth,
    external,
    file,
    header,
    names,
    operators,
    sound,
    structure,
    tensors,
    types,
    values,
)
