"""What a training step is held to, against the fastest and the lightest peer and against each peer's twin."""

from collections.abc import Mapping, Sequence

from benchmarks.figures import Measured, Spread, least, middle, ratio
from benchmarks.networks import PAPER, Network
from benchmarks.section import Goal
from benchmarks.steps import ATROUS, CHECKPOINTED, FLOAT32, PLAIN, TUNED, name_of

_SHIPPED, _TUNED, _FLOAT32 = 2.2, 1.15, 1.15  # times as fast
_MEMORY = 0.85
_CHECKPOINTED_MEMORY, _CHECKPOINTED_SECONDS = 0.6, 1.35
_PEAK_PERCENT = 60.0
_NO_BF16 = "no bf16 in hardware"


def goals(
    measured: Measured,
    networks: Mapping[str, Network],
    operations: Mapping[str, float],
    peaks: Mapping[str, float],
) -> list[Goal]:
    """The goals that can be told from what was measured.

    Args:
        measured: by `network: manner`; there is no goal of ways that are not there.
        networks: by key.
        operations: of a step, by network.
        peaks: operations per second of a convolution, by precision.
    """
    found = []
    peers = [
        key
        for key, network in networks.items()
        if network.twin and all(name_of(key, manner) in measured for manner in (PLAIN, TUNED))
    ]
    if peers:
        fastest = {manner: least(measured, [name_of(key, manner) for key in peers]) for manner in (PLAIN, TUNED)}
        everything = [name_of(key, manner) for key in peers for manner in (PLAIN, TUNED)]
        lightest = {manner: _lightest(measured, everything, like=way) for manner, way in fastest.items()}
        found += _against(measured, PAPER, "the paper's network", fastest, lightest, names=_names(networks))
    for key in peers:
        ways = {manner: name_of(key, manner) for manner in (PLAIN, TUNED)}
        light = {manner: _lightest(measured, list(ways.values()), like=way) for manner, way in ways.items()}
        label = f"{networks[key].label}'s network"
        found += _against(measured, networks[key].twin, label, ways, light, names=_names(networks))
    return found + _of_its_own(measured, operations, peaks)


def _against(
    measured: Measured,
    ours: str,
    label: str,
    fastest: Mapping[str, str],
    lightest: Mapping[str, str],
    *,
    names: Mapping[str, str],
) -> list[Goal]:
    """One network of atrous against a peer as it ships and tuned."""
    shipped = name_of(ours, ATROUS)
    if shipped not in measured:
        return []
    has_bf16 = measured[shipped][0]["precision"] != "32-true"
    exact = name_of(ours, FLOAT32) if has_bf16 else shipped

    def speed(way: str, manner: str, bound: float, moot: str = "") -> Goal:
        what = f"{label}, {way.partition(': ')[2]}: times as fast as {names[fastest[manner]]}"
        return Goal(what, ratio(measured, fastest[manner], way), at_least=bound, moot=moot)

    def memory(way: str, manner: str, bound: float = _MEMORY) -> Goal:
        what = f"{label}, {way.partition(': ')[2]}: memory of {names[lightest[manner]]}'s"
        return Goal(what, ratio(measured, way, lightest[manner], key="peak_mib"), at_most=bound)

    found = [speed(shipped, PLAIN, _SHIPPED, "" if has_bf16 else _NO_BF16), speed(shipped, TUNED, _TUNED)]
    if exact in measured:
        found.append(speed(exact, PLAIN, _FLOAT32))
    if has_bf16:
        found.append(memory(shipped, TUNED))
    if exact in measured:
        found.append(memory(exact, PLAIN))
    frugal = name_of(ours, CHECKPOINTED)
    if frugal in measured:
        found.append(memory(frugal, TUNED if has_bf16 else PLAIN, _CHECKPOINTED_MEMORY))
        seconds = ratio(measured, frugal, shipped)
        what = f"{label}, activation checkpointing: of the seconds without"
        found.append(Goal(what, seconds, at_most=_CHECKPOINTED_SECONDS))
    return found


def _of_its_own(measured: Measured, operations: Mapping[str, float], peaks: Mapping[str, float]) -> list[Goal]:
    """The paper's network: its share of the peak."""
    shipped = name_of(PAPER, ATROUS)
    if shipped not in measured:
        return []
    peak = peaks[measured[shipped][0]["precision"]]
    shares = [100 * operations[PAPER] / middle(turn, "seconds") / peak for turn in measured[shipped]]
    what = "the paper's network, as shipped: share of a convolution's peak"
    return [Goal(what, Spread.of(shares), at_least=_PEAK_PERCENT, unit="%")]


def _lightest(measured: Measured, ways: Sequence[str], *, like: str) -> str:
    """The way with the smallest memory of those at the precision of another."""
    precision = measured[like][0]["precision"]
    return least(measured, [way for way in ways if measured[way][0]["precision"] == precision], key="peak_mib")


def _names(networks: Mapping[str, Network]) -> dict[str, str]:
    """Ways of the peers in words."""
    words = {PLAIN: "as it ships", TUNED: "tuned"}
    return {
        name_of(key, manner): f"{networks[key].label}, {word}" for key in networks for manner, word in words.items()
    }
