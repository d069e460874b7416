"""Which vectors of syncd's an index holds: what a listing of ids proves, and our own changes since. PURE."""

from collections.abc import Iterable, Iterator

from syncd.targets.vectorize.ids import Ref, parse_ref, split_id


class Sets:
    """Vectors by the ref they belong to, refs by owner and key. Takes some 300 bytes for each ref."""

    def __init__(self) -> None:
        self._pieces: dict[str, int] = {}
        self._refs: dict[tuple[str, str], tuple[str, ...]] = {}
        self.strangers: list[str] = []
        """Ids that are none of syncd's."""

    def see(self, ids: Iterable[str]) -> None:
        """Take ids of a listing in."""
        for vector_id in ids:
            found = split_id(vector_id)
            if found is None:
                self.strangers.append(vector_id)
            else:
                ref, piece = found
                self._hold(ref, 1 << (piece - 1))

    def put(self, ref: Ref) -> None:
        """We wrote all pieces of a ref."""
        self._hold(str(ref), (1 << ref.pieces) - 1)

    def drop(self, ref: Ref) -> None:
        """We deleted all pieces of a ref."""
        text = str(ref)
        if self._pieces.pop(text, None) is not None:
            left = tuple(each for each in self._refs[ref.owner, ref.key] if each != text)
            self._refs[ref.owner, ref.key] = left
            if not left:
                del self._refs[ref.owner, ref.key]

    def of_key(self, owner: str, key: str) -> list[Ref]:
        """The refs of one key, given by their tags."""
        return [_parsed(text) for text in self._refs.get((owner, key), ())]

    def places(self) -> Iterator[tuple[str, str]]:
        """The tags of (owner, key) there are."""
        return iter(self._refs)

    def held(self, ref: Ref) -> int:
        """How many pieces of a ref there are."""
        return self._pieces.get(str(ref), 0).bit_count()

    def holds(self, vector_id: str) -> bool:
        """Whether a vector of syncd's is there."""
        found = split_id(vector_id)
        return found is not None and bool(self._pieces.get(found[0], 0) >> (found[1] - 1) & 1)

    def some_id(self, ref: Ref) -> str:
        """The id of a piece that is there."""
        pieces = self._pieces[str(ref)]
        return ref.ids()[(pieces & -pieces).bit_length() - 1]

    def _hold(self, ref: str, pieces: int) -> None:
        if ref not in self._pieces:
            parsed = _parsed(ref)
            place = parsed.owner, parsed.key
            self._refs[place] = (*self._refs.get(place, ()), ref)
        self._pieces[ref] = self._pieces.get(ref, 0) | pieces


def _parsed(text: str) -> Ref:
    ref = parse_ref(text)
    if ref is None:
        raise AssertionError(f"no ref of ours: {text!r}")
    return ref
