"""Reference profiles: counting, keeping, and measuring against one."""

from dataclasses import replace

import numpy as np
import pytest

from activations import make_activations
from facsynth.coverage.measure import measure_coverage
from facsynth.coverage.profile import (
    PROFILE_THRESHOLDS,
    ReferenceProfile,
    profile_rows,
    profile_sae,
    read_profile,
    write_profile,
)
from facsynth.coverage.reference import measure_reference
from facsynth.coverage.settings import CoverageSettings
from facsynth.errors import DataError, MismatchError
from facsynth.models.default_model import default_sae_folder
from facsynth.sae.files import load_sae
from facsynth.table.active import active_rows
from facsynth.table.extract import extract_features
from facsynth.table.settings import ExtractSettings
from tiny_pair import PLANTED, WEAK, planted_pair, planted_table, talk

REFERENCE = make_activations([{0: 2.0, 1: 3.0}, {0: 1.2}, {2: 5.0}, {0: 2.0, 1: 0.7}] * 5)


def profile_of(table, **changes):
    counts = np.stack([active_rows(table, threshold=t).counts for t in PROFILE_THRESHOLDS])
    profile = ReferenceProfile(
        thresholds=PROFILE_THRESHOLDS,
        sample_counts=counts,
        max_activations=np.zeros(table.n_features),
        n_samples=table.n_tokens.size,
        n_tokens=int(table.n_tokens.sum()),
        sae_hash="a",
        model_hash="b",
        score="all",
        max_length=100,
    )
    return replace(profile, **changes)


AT_ONE = CoverageSettings(threshold=1.0)


def test_without_a_threshold_the_profile_picks_one_of_its_own_that_leaves_room():
    found = measure_reference(profile_of(REFERENCE), make_activations([{0: 9.0}]))
    assert found.threshold in PROFILE_THRESHOLDS
    assert "the lowest with room" in found.threshold_rule


def test_names_of_a_profile_are_kept_and_name_what_is_missing(tmp_path):
    names = ("sea", "", "sun, star", *[""] * (REFERENCE.n_features - 3))
    write_profile(profile_of(REFERENCE, names=names), tmp_path / "p.npz")
    seed = make_activations([{0: 9.0}])
    found = measure_reference(read_profile(tmp_path / "p.npz"), seed, settings=AT_ONE)
    assert {m.feature_id: m.name for m in found.missing} == {1: None, 2: "sun, star"}


def test_profile_measures_what_the_table_behind_it_measures():
    seed = make_activations([{0: 2.0, 3: 9.0}, {1: 0.9}])
    of_profile = measure_reference(profile_of(REFERENCE), seed, settings=AT_ONE)
    of_table = measure_coverage(REFERENCE, seed, settings=AT_ONE)
    for name in ("fac", "n_anchor", "n_covered", "n_missing", "frequency_weighted"):
        assert getattr(of_profile, name) == getattr(of_table, name)
    assert of_profile.representativeness == of_table.representativeness
    assert of_profile.sweep[:-1] == tuple(p for p in of_table.sweep if p.quantile is None)
    assert of_profile.interval == of_table.interval
    assert of_profile.richness.anchor == of_table.richness.anchor
    ours, theirs = of_profile.controls, of_table.controls
    assert ours.random_subset.mean == pytest.approx(theirs.random_subset.mean, abs=0.1)
    assert ours.random_hellinger == pytest.approx(theirs.random_hellinger, abs=0.1)


def test_profile_and_table_give_rows_of_one_shape():
    settings = CoverageSettings(controls=True)
    seed = make_activations([{0: 2.0, 3: 9.0}, {1: 0.9}])
    of_profile = measure_reference(profile_of(REFERENCE), seed, settings=settings).row()
    of_table = measure_coverage(REFERENCE, seed, settings=settings).row()
    assert set(of_profile) == set(of_table)
    for name in ("controls", "richness", "weighted", "n_samples", "n_tokens"):
        assert set(of_profile[name]) == set(of_table[name])
    assert of_profile["weighted"]["magnitude"] is None


def test_features_outside_the_relevant_ones_are_matched_with_a_profile_too():
    relevant = np.array([True, False, True, False])
    profile = profile_of(REFERENCE)
    found = measure_reference(profile, REFERENCE, relevant=relevant, settings=AT_ONE)
    assert found.controls.frequency_matched.mean == 1.0


def test_missing_features_of_most_samples_come_first():
    found = measure_reference(profile_of(REFERENCE), make_activations([{3: 2.0}]))
    assert [m.feature_id for m in found.missing] == [0, 1, 2]
    assert found.fac == 0.0


def test_longer_seed_and_larger_seed_give_warnings():
    seed = make_activations([{0: 2.0}] * 30, n_tokens=[50] * 30)
    found = measure_reference(profile_of(REFERENCE), seed)
    assert found.controls.random_subset is None
    assert any("seed samples are longer" in warning for warning in found.controls.warnings)
    assert any("is unknown" in warning for warning in found.controls.warnings)


@pytest.mark.parametrize(
    ("threshold", "advice"), [(0.0, "raise --threshold"), (8.0, "read the distance")]
)
def test_saturated_reference_names_a_way_out_that_exists(threshold, advice):
    table = make_activations([{0: 9.0, 1: 9.0}] * 20)
    found = measure_reference(
        profile_of(table), table, settings=CoverageSettings(threshold=threshold)
    )
    assert advice in found.controls.warnings[-1]


def test_reference_is_said_to_be_no_domain():
    found = measure_reference(profile_of(REFERENCE), make_activations([{0: 2.0}]))
    assert "general text, not your domain" in found.controls.warnings[0]


def test_threshold_that_was_not_counted_is_an_error():
    with pytest.raises(DataError, match=r"no counts at threshold 3; choose one of 0, 0\.5, 1"):
        measure_reference(
            profile_of(REFERENCE), REFERENCE, settings=CoverageSettings(threshold=3.0)
        )


def test_profile_of_another_width_is_an_error():
    with pytest.raises(MismatchError, match="the reference has 4 features, the seed 6"):
        measure_reference(profile_of(REFERENCE), make_activations([{0: 1.0}], n_features=6))


def test_seed_without_samples_is_an_error():
    with pytest.raises(DataError, match="no samples"):
        measure_reference(profile_of(REFERENCE), make_activations([]))


# Counting and keeping


def test_counts_are_those_of_the_extracted_table():
    lm, sae = planted_pair()
    samples = [
        talk(f"s{i}", f"we saw the {w} and the {v}")
        for i, (w, v) in enumerate(zip(PLANTED, WEAK, strict=True))
    ]
    found = profile_sae(lm, sae, [*samples, talk("empty", "")])
    rows = extract_features(samples, lm, sae)
    for threshold in PROFILE_THRESHOLDS:
        assert (found.counts(threshold) == active_rows(rows, threshold=threshold).counts).all()
    assert (found.n_samples, found.n_tokens) == (len(samples), int(rows.n_tokens.sum()))
    assert found.max_activations.tolist() == [2.0] * sae.config.d_sae


def test_profile_of_an_extracted_table_is_that_of_its_text(tmp_path):
    samples = [talk(f"s{i}", f"we saw {w}") for i, w in enumerate(PLANTED * 2)]
    table = planted_table(samples, tmp_path / "t")
    ours = profile_rows(table.activations(), table.manifest.source, note="x")
    of_text = profile_sae(*planted_pair(), samples, note="x")
    assert (ours.sample_counts == of_text.sample_counts).all()
    assert (ours.sae_hash, ours.n_tokens) == (of_text.sae_hash, of_text.n_tokens)


def test_profile_is_not_made_of_other_pooling(tmp_path):
    settings = ExtractSettings(pooling="count")
    table = planted_table([talk("s", "we saw cat")], tmp_path / "t", settings=settings)
    with pytest.raises(DataError, match="gate sae and pooling count; a profile counts by"):
        profile_rows(table.activations(), table.manifest.source)


def test_texts_without_tokens_cannot_be_counted():
    with pytest.raises(DataError, match="none of the 1 samples has scored tokens"):
        profile_sae(*planted_pair(), [talk("s", "")])


def test_profile_is_read_as_it_was_written(tmp_path):
    profile = profile_of(REFERENCE, source="a mix", max_activations=np.array([2.0, 3, 5, 0]))
    write_profile(profile, tmp_path / "reference.npz")
    found = read_profile(tmp_path)
    for name in ("sample_counts", "max_activations"):
        assert (getattr(found, name) == getattr(profile, name)).all()
    assert found.thresholds == profile.thresholds
    assert found.source == "a mix"


def test_profile_is_small(tmp_path):
    counts = np.random.default_rng(0).geometric(0.02, (7, 4096))
    profile = profile_of(REFERENCE, sample_counts=counts, max_activations=np.ones(4096))
    write_profile(profile, tmp_path / "p.npz")
    assert (tmp_path / "p.npz").stat().st_size < 70_000


def test_what_is_no_profile_is_said(tmp_path):
    with pytest.raises(DataError, match="fac sae profile SAE DATA"):
        read_profile(tmp_path)
    (tmp_path / "reference.npz").write_bytes(b"text")
    with pytest.raises(DataError, match="is not a reference profile"):
        read_profile(tmp_path)


def test_the_shipped_sae_carries_a_profile_of_its_own():
    profile, sae = read_profile(default_sae_folder()), load_sae()
    assert profile.sae_hash == sae.content_hash
    assert profile.model_hash == sae.config.model_hash
    assert profile.sample_counts.shape == (len(PROFILE_THRESHOLDS), 4096)
    assert (np.diff(profile.sample_counts, axis=0) <= 0).all()
    assert profile.n_samples >= 4000
    assert "training corpus" in profile.source
