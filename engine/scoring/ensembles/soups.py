"""Methods whose result is a soup: the mean of the weights of members, or of the latest states of a run.

The mean of two models is useful only if the loss does not rise on the path between their weights (Frankle et
al. 2020, arXiv 1912.05671). So models behind such a loss barrier are left out, and named.
"""

from collections.abc import Sequence

from engine.scoring.ensembles.selection import Ensemble, SelectionData, Soup, one_hot

MOST_BARRIER = 0.02  # rise of the loss at the midpoint over the mean of the two ends, as a share of that mean


def soup_uniform(data: SelectionData) -> Ensemble:
    """All members that can be averaged (Wortsman et al. 2022, arXiv 2203.05482)."""
    soup, notes = _reachable(data)
    return _soup_or_best_member(data, tuple(sorted(soup)), notes)


def soup_greedy(data: SelectionData) -> Ensemble:
    """Recipe 1 of arXiv 2203.05482: best first, each kept unless the mIoU falls."""
    ranked, notes = _reachable(data)
    soup: Soup = ranked[:1]
    score = data.mIoU(soup[0])
    for member in ranked[1:]:
        tried = tuple(sorted((*soup, member)))
        if (with_it := data.mIoU_of_soup(tried)) >= score:
            soup, score = tried, with_it
        else:
            notes.append(f"{data.names[member]} left out: mIoU {with_it:.4f} with it, {score:.4f} without")
    return _soup_or_best_member(data, soup, notes)


def lawa(data: SelectionData) -> Ensemble:
    """The latest k states of a run, k by the highest mIoU (Kaddour 2022, arXiv 2209.14981; 2306.03241)."""
    tails = [_without_barrier(data, tail) for tail in data.tails]
    tried = [(tail[-k:], notes) for tail, notes in tails for k in range(2, len(tail) + 1)]
    return _best_of(data, tried, [note for _, notes in tails for note in notes])


def swa(data: SelectionData) -> Ensemble:
    """All latest states of a run (Izmailov et al. 2018, arXiv 1803.05407)."""
    tails = [_without_barrier(data, tail) for tail in data.tails]
    return _best_of(
        data, [tail for tail in tails if len(tail[0]) > 1], [n for _, notes in tails for n in notes]
    )


def ema_post_hoc(data: SelectionData) -> Ensemble:
    """The average whose width has the highest mIoU (Karras et al. 2023, arXiv 2312.02696)."""
    scores = [f"{data.names[number]} {data.mIoU_of_soup((number,)):.4f}" for number in data.widths]
    notes = [f"mIoU {', '.join(scores)}"]
    return _best_of(data, [((number,), notes) for number in data.widths], [])


def barrier(data: SelectionData, one: int, other: int) -> float:
    """The relative excess of the log-loss of the mean of two models over the mean of their log-losses."""
    ends = (data.loss_of_soup((one,)) + data.loss_of_soup((other,))) / 2
    middle = data.loss_of_soup((min(one, other), max(one, other)))
    return (middle - ends) / ends


def _reachable(data: SelectionData) -> tuple[Soup, list[str]]:
    """The averageable members without a barrier to the best one, best first; notes on those left out."""
    ranked = sorted(data.averageable, key=lambda member: -data.mIoU(member))
    others = [member for member in range(data.num_members) if member not in ranked]
    notes = [f"{data.names[member]} left out: another initialisation or architecture" for member in others]
    soup = ranked[:1]
    for member in ranked[1:]:
        if (rise := barrier(data, ranked[0], member)) > MOST_BARRIER:
            notes.append(_behind(data, member, ranked[0], rise))
        else:
            soup.append(member)
    return tuple(soup), notes


def _without_barrier(data: SelectionData, tail: Soup) -> tuple[Soup, list[str]]:
    """The states from the first one without a barrier to the latest on; notes on those left out."""
    notes: list[str] = []
    for place, state in enumerate(tail[:-1]):
        if (rise := barrier(data, state, tail[-1])) <= MOST_BARRIER:
            return tail[place:], notes
        notes.append(_behind(data, state, tail[-1], rise))
    return tail[-1:], notes


def _behind(data: SelectionData, member: int, anchor: int, rise: float) -> str:
    names = data.names
    percent = f"{100 * rise:.1f} %"
    mean = f"averaged with {names[anchor]}, the log-loss is {percent} above the mean of both"
    return f"{names[member]} left out: {mean}"


def _best_of(data: SelectionData, tried: Sequence[tuple[Soup, list[str]]], notes: list[str]) -> Ensemble:
    """The soup with the highest mIoU; the first one on a tie."""
    if not tried:
        return _soup_or_best_member(data, (), notes)
    soup, of_soup = max(tried, key=lambda one: data.mIoU_of_soup(one[0]))
    return _soup_or_best_member(data, soup, of_soup)


def _soup_or_best_member(data: SelectionData, soup: Soup, notes: Sequence[str]) -> Ensemble:
    """The soup, or the best member if the soup is worse."""
    best = data.best_member
    left_out = "".join(f"; {note}" for note in notes)
    if len(soup) < 2 and not set(soup) & set(data.widths):
        reason = "nothing is left to average"
    elif (score := data.mIoU_of_soup(soup)) < (of_best := data.mIoU(best)):
        reason = f"mIoU {score:.4f} against {of_best:.4f} on the images of the selection"
    else:
        note = f"weights of {', '.join(data.names[member] for member in soup)}{left_out}"
        return Ensemble(one_hot(best, data.num_members), soup, note)
    note = f"rejected: {reason}; {data.names[best]} is used instead{left_out}"
    return Ensemble(one_hot(best, data.num_members), note=note, accepted=False)
