from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.data import RandomSampler

from xiaonet.data.loaders import Batches, make_loader
from xiaonet.data.pipeline import Windows
from xiaonet.data.sets import open_data
from xiaonet.errors import ConfigError

Numbers = list[tuple[int, int]]


def epoch_of(batches: Batches, epoch: int, first: int = 0) -> list[Numbers]:
    batches.start(epoch, first)
    return list(batches)


def flat(batches: list[Numbers]) -> Numbers:
    return [number for batch in batches for number in batch]


# --- batches


@settings(max_examples=50, deadline=None)
@given(records=st.integers(1, 200), batch_size=st.integers(1, 70), seed=st.integers(0, 2**31), epoch=st.integers(0, 500))
def test_no_record_comes_twice_in_an_epoch(records: int, batch_size: int, seed: int, epoch: int) -> None:
    batches = Batches(records, batch_size, shuffle=True, seed=seed)
    epoch_batches = epoch_of(batches, epoch)
    rows = [row for _, row in flat(epoch_batches)]
    size = min(batch_size, records)
    assert (len(batches), [size] * (records // size)) == (len(epoch_batches), [len(batch) for batch in epoch_batches])
    assert (len(rows), True) == (len(set(rows)), set(rows) <= set(range(records)))
    assert {epoch} == {turn for turn, _ in flat(epoch_batches)}


def test_a_whole_number_of_batches_is_a_permutation() -> None:
    rows = [row for _, row in flat(epoch_of(Batches(60, 12, shuffle=True, seed=1), 0))]
    assert (list(range(60)), False) == (sorted(rows), rows == sorted(rows))


def test_the_last_incomplete_batch_is_dropped_and_another_one_each_epoch() -> None:
    batches = Batches(65, 10, shuffle=True)
    dropped = [set(range(65)) - {row for _, row in flat(epoch_of(batches, epoch))} for epoch in range(20)]
    assert (6, [5] * 20) == (len(batches), [len(rows) for rows in dropped])
    assert 20 == len({frozenset(rows) for rows in dropped})


def test_every_record_is_used_over_the_epochs() -> None:
    batches = Batches(11, 10, shuffle=True)
    assert set(range(11)) == {row for epoch in range(10) for _, row in flat(epoch_of(batches, epoch))}


def test_the_order_depends_on_seed_and_epoch_alone() -> None:
    first = epoch_of(Batches(40, 8, shuffle=True, seed=3), 2)
    torch.manual_seed(99)
    again = Batches(40, 8, shuffle=True, seed=3)
    epoch_of(again, 7)
    assert first == epoch_of(again, 2)
    others = [epoch_of(again, 1), epoch_of(Batches(40, 8, shuffle=True, seed=4), 2)]
    rows = [[row for _, row in flat(batches)] for batches in (first, *others)]
    assert 3 == len({tuple(order) for order in rows})


def test_neighbouring_seeds_and_epochs_do_not_repeat_an_order() -> None:
    orders = {
        tuple(row for _, row in flat(epoch_of(Batches(30, 30, shuffle=True, seed=seed), epoch))) for seed in range(5) for epoch in range(20)
    }
    assert 100 == len(orders)


def test_the_global_generator_of_torch_is_left_alone() -> None:
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    epoch_of(Batches(40, 8, shuffle=True), 2)
    assert torch.equal(expected, torch.rand(3))


@pytest.mark.parametrize("shuffle", [True, False])
@pytest.mark.parametrize("first", [0, 1, 3, 6])
def test_a_resumed_epoch_goes_on_where_it_was_left(shuffle: bool, first: int) -> None:
    whole = epoch_of(Batches(50, 8, shuffle=shuffle, seed=5), 4)
    assert whole[first:] == epoch_of(Batches(50, 8, shuffle=shuffle, seed=5), 4, first)


@settings(max_examples=50, deadline=None)
@given(
    records=st.integers(4, 150),
    batch_size=st.integers(4, 40),
    world_size=st.integers(1, 4),
    shuffle=st.booleans(),
    epoch=st.integers(0, 9),
    rounds=st.integers(1, 3),
)
def test_processes_share_each_global_batch(records: int, batch_size: int, world_size: int, shuffle: bool, epoch: int, rounds: int) -> None:
    size = batch_size - batch_size % world_size if batch_size <= records * rounds else records * rounds - records * rounds % world_size
    together = Batches(records, size if shuffle else batch_size, shuffle=shuffle, windows_per_record=rounds, seed=1)
    shares = [
        Batches(records, batch_size, shuffle=shuffle, windows_per_record=rounds, seed=1, rank=rank, world_size=world_size)
        for rank in range(world_size)
    ]
    dealt = [epoch_of(share, epoch) for share in shares]
    for step, batch in enumerate(epoch_of(together, epoch)):
        parts = [share[step] for share in dealt if step < len(share)]
        assert sorted(batch) == sorted(number for part in parts for number in part)
        if shuffle:  # every process averages over equally many windows
            assert {len(batch) // world_size} == {len(part) for part in parts}
    assert {len(together)} == {len(share) for share in shares}


def test_fewer_records_than_a_batch_make_one_batch() -> None:
    batches = epoch_of(Batches(5, 64, shuffle=True), 0)
    assert [list(range(5))] == [sorted(row for _, row in batch) for batch in batches]


@pytest.mark.parametrize(("records", "sizes"), [(25, [10, 10, 5]), (20, [10, 10]), (3, [3])])
def test_without_shuffling_every_record_comes_once_in_order(records: int, sizes: list[int]) -> None:
    batches = Batches(records, 10, shuffle=False, seed=9)
    found = epoch_of(batches, 6)
    assert (sizes, len(sizes)) == ([len(batch) for batch in found], len(batches))
    assert [(0, row) for row in range(records)] == flat(found)


def test_several_windows_of_a_record_come_from_different_rounds() -> None:
    batches = Batches(6, 4, shuffle=True, windows_per_record=3)
    assert {(turn, row) for turn in range(3) for row in range(6)} >= set(flat(epoch_of(batches, 0)))
    later = flat(epoch_of(batches, 2))
    assert (4, 16, {6, 7, 8}) == (len(batches), len(set(later)), {turn for turn, _ in later})


def test_no_round_of_an_epoch_comes_back_in_the_next_one() -> None:
    batches = Batches(6, 6, shuffle=True, windows_per_record=2)
    epochs = [set(flat(epoch_of(batches, epoch))) for epoch in range(4)]
    assert 4 * 12 == len(set().union(*epochs))


def test_without_shuffling_the_rounds_follow_each_other() -> None:
    found = flat(epoch_of(Batches(3, 4, shuffle=False, windows_per_record=2), 5))
    assert [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (1, 2)] == found


@pytest.mark.parametrize(("records", "batch_size", "world_size"), [(10, 2, 3), (2, 10, 3), (0, 4, 1)])
def test_a_batch_that_cannot_be_dealt_is_a_config_error(records: int, batch_size: int, world_size: int) -> None:
    with pytest.raises(ConfigError, match=f"batch of {min(records, batch_size)} windows.*{world_size} processes"):
        Batches(records, batch_size, shuffle=True, world_size=world_size)


# --- loaders


@pytest.fixture(scope="module")
def windows(made_up: Path) -> Windows:
    return Windows(open_data(str(made_up)), seed=1, incomplete_statuses=("unpicked",))


def loader(windows: Windows, workers: int, **options: object):
    return make_loader(windows, Batches(len(windows), 8, shuffle=True, seed=2), num_workers=workers, pin_memory=False, **options)


def test_any_number_of_workers_gives_the_same_batches(windows: Windows) -> None:
    alone, shared = loader(windows, 0), loader(windows, 2)
    for epoch in (0, 1):
        for one in (alone, shared):
            one.batch_sampler.start(epoch)
        pairs = list(zip(alone, shared, strict=True))
        assert 5 == len(pairs)
        for expected, actual in pairs:
            assert expected["name"] == actual["name"]
            for key in ("X", "y", "incomplete"):
                assert torch.equal(expected[key], actual[key])


def test_a_batch_holds_stacked_windows_labels_and_flags(windows: Windows) -> None:
    batch = next(iter(loader(windows, 0)))
    assert {"X": (8, 3, 3001), "y": (8, 3, 3001), "incomplete": (8, 3)} == {
        key: tuple(batch[key].shape) for key in ("X", "y", "incomplete")
    }
    assert (torch.float32, torch.float32, torch.bool, 8) == (
        batch["X"].dtype,
        batch["y"].dtype,
        batch["incomplete"].dtype,
        len(batch["name"]),
    )


def test_a_batch_holds_the_windows_that_its_numbers_name(windows: Windows) -> None:
    one = loader(windows, 0)
    one.batch_sampler.start(3)
    numbers = next(iter(one.batch_sampler))
    expected = torch.stack([torch.from_numpy(windows[number]["X"]) for number in numbers])
    assert torch.equal(expected, next(iter(one))["X"])


def test_a_resumed_loader_gives_the_rest_of_the_epoch(windows: Windows) -> None:
    whole, rest = loader(windows, 0), loader(windows, 2)
    whole.batch_sampler.start(1)
    rest.batch_sampler.start(1, 3)
    assert [batch["name"] for batch in whole][3:] == [batch["name"] for batch in rest]


@pytest.mark.parametrize(("workers", "prefetch", "persistent"), [(0, None, False), (2, 4, True)])
def test_the_loader_is_set_up_as_prescribed(windows: Windows, workers: int, prefetch: int | None, persistent: bool) -> None:
    one = loader(windows, workers)
    assert (workers, prefetch, persistent, False) == (one.num_workers, one.prefetch_factor, one.persistent_workers, one.pin_memory)
    assert [Batches, False] == [type(one.batch_sampler), isinstance(one.sampler, RandomSampler)]


@pytest.mark.parametrize("pin_memory", [True, False])
def test_memory_is_pinned_where_asked(windows: Windows, pin_memory: bool) -> None:
    one = make_loader(windows, Batches(len(windows), 8, shuffle=False), num_workers=0, pin_memory=pin_memory)
    assert pin_memory == one.pin_memory


def test_workers_are_seeded_by_seisbench(windows: Windows, monkeypatch: pytest.MonkeyPatch) -> None:
    seeded: list[int] = []
    monkeypatch.setattr("xiaonet.data.loaders.worker_seeding", seeded.append)
    monkeypatch.setattr("xiaonet.data.loaders.signal.signal", lambda number, action: seeded.append(number))
    loader(windows, 2).worker_init_fn(1)
    assert [1, 2, 15] == seeded  # worker 1, SIGINT and SIGTERM
