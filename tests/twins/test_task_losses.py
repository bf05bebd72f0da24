"""Losses of the tasks: their sums by definition, equal on both backends, right for any part of a batch."""

from dataclasses import dataclass
from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from losses import losses
from scipy.special import log_softmax

from pipeline.config.tasks import ContrastiveConfig, OwnTaskConfig, TaskConfig
from pipeline.errors import UserError
from pipeline.rng import generator
from pipeline.tasks import TASKS, Denoising
from pipeline.tasks.seq2seq import PADDING

pytestmark = pytest.mark.usefixtures("float64")
RANDOM = np.random.default_rng(0)


@dataclass(frozen=True)
class Case:
    """Fields of a batch, a weight, and a model of it, written for both."""

    fields: dict
    weight: np.ndarray
    model: object  # of (weight, *inputs) in JAX's layout
    outputs: int = 3
    config: TaskConfig | None = None

    @property
    def images(self):
        """Fields that torch has channels first."""
        return [name for name, field in self.fields.items() if field.ndim == 4]


def table(weight, tokens):
    """Row of each token."""
    return weight[tokens]


MASK = RANDOM.integers(0, 3, (4, 5, 6))
MASK[0, :2] = 255  # ignored
TARGET = RANDOM.integers(1, 3, (5, 6))
TARGET[np.arange(6) >= np.array([[6], [1], [3], [5], [2]])] = PADDING
FIRST_RIGHT = RANDOM.normal(size=(3, 3))
FIRST_RIGHT[PADDING, TARGET[1, 0]] += 9
FIRST_RIGHT[TARGET[1, 0], PADDING] += 99
SOURCE = RANDOM.integers(0, 3, (5, 6))
SOURCE[1, 0] = 3 - TARGET[1, 0]  # of a row of its own
CASES = {
    "classification": Case(
        {"features": RANDOM.normal(size=(6, 4)), "label": RANDOM.integers(0, 3, 6)},
        RANDOM.normal(size=(4, 3)),
        lambda weight, x: x @ weight,
    ),
    "regression": Case(
        {"features": RANDOM.normal(size=(6, 4)), "target": RANDOM.normal(size=(6, 3))},
        RANDOM.normal(size=(4, 3)),
        lambda weight, x: x @ weight,
    ),
    "language": Case(
        {"tokens": RANDOM.integers(0, 3, (4, 7)), "next": RANDOM.integers(0, 3, (4, 7))},
        RANDOM.normal(size=(3, 3)),
        table,
    ),
    "multilabel": Case(
        {"features": RANDOM.normal(size=(6, 4)), "labels": RANDOM.integers(0, 2, (6, 3))},
        RANDOM.normal(size=(4, 3)),
        lambda weight, x: x @ weight,
    ),
    "segmentation": Case(
        {"image": RANDOM.normal(size=(4, 5, 6, 2)), "mask": MASK},
        RANDOM.normal(size=(2, 3)),
        lambda weight, x: x @ weight,
    ),
    "masked_language": Case(
        {"tokens": RANDOM.integers(0, 10, (8, 30))}, RANDOM.normal(size=(11, 11)), table, 11
    ),
    "seq2seq": Case(
        {"source": SOURCE, "target": TARGET},
        FIRST_RIGHT,
        lambda weight, source, later: weight[later] + weight[source[:, :1]],
    ),
    "denoising": Case(
        {"image": RANDOM.normal(size=(4, 6, 5, 2))},
        RANDOM.normal(size=(2, 2)),
        lambda weight, x, time: x @ weight + time.reshape(-1, 1, 1, 1) * weight[0, 0],
    ),
    "contrastive": Case(
        {name: RANDOM.normal(size=(6, 4, 3, 2)) for name in ("image", "view")},
        RANDOM.normal(size=(2, 5)),
        lambda weight, x: (x**2).sum((1, 2)) @ weight,
        5,
        ContrastiveConfig(group=3, temperature=0.3),
    ),
    "own": Case(
        {"features": RANDOM.normal(size=(6, 4)), "target": RANDOM.normal(size=(6, 3))},
        RANDOM.normal(size=(4, 3)),
        lambda weight, x: x @ weight,
        config=OwnTaskConfig(
            torch="own_losses:torch_huber",
            jax="own_losses:jax_huber",
            targets=["target"],
            metrics=["mae"],
            options={"delta": 0.5},
        ),
    ),
}


def task_of(name):
    """Task of a case."""
    return TASKS[name](CASES[name].config)


def batch_of(name):
    """Fields of a batch, with its noise."""
    fields, task = CASES[name].fields, task_of(name)
    shapes = {field: array.shape for field, array in fields.items()}
    return fields | {n: task.draw(n, generator(0, n), shapes) for n in task.noise}


def with_torch(name, batch):
    """Sums over a batch, and the gradient of the mean loss."""
    case = CASES[name]
    loss, _ = losses(name, outputs=case.outputs, config=case.config, **case.fields)
    weight = torch.tensor(case.weight, requires_grad=True)

    def model(first, *others):
        image = first.ndim == 4
        out = case.model(weight, first.movedim(1, -1) if image else first, *others)
        return out.movedim(-1, 1) if image else out

    tensors = {n: torch.tensor(array) for n, array in batch.items()}
    tensors |= {n: tensors[n].movedim(-1, 1) for n in case.images}
    sums = loss.sums(loss.outputs(model, tensors), tensors)
    (sums[0] / task_of(name).count_terms(batch)).backward()
    return np.concatenate([s.detach().numpy().reshape(-1) for s in sums]), weight.grad.numpy()


def loss_of_jax(name):
    """Function of the weight, a batch, its terms and what counts: the mean loss, and the sums."""
    case = CASES[name]
    _, loss = losses(name, outputs=case.outputs, config=case.config, **case.fields)

    def mean(weight, batch, terms, counted=None):
        sums = loss.sums(loss.outputs(case.model, weight, batch), batch, counted=counted)
        return sums[0] / terms, jnp.concatenate([s.reshape(-1) for s in sums])

    return mean


@cache
def compiled_sums(name):
    """Function of the arguments of `loss_of_jax`, compiled once for batches of one size."""
    mean = loss_of_jax(name)
    return jax.jit(lambda *arguments: mean(*arguments)[1])


def arguments_of(name, batch):
    """Weight, batch and terms."""
    arrays = {n: jnp.asarray(array) for n, array in batch.items()}
    return jnp.asarray(CASES[name].weight), arrays, float(task_of(name).count_terms(batch))


def with_jax(name, batch):
    """Sums over a batch, and the gradient of the mean loss."""
    differentiated = jax.jit(jax.grad(loss_of_jax(name), has_aux=True))
    gradient, sums = differentiated(*arguments_of(name, batch))
    return np.asarray(sums), np.asarray(gradient)


def sums_with_jax(name, batch, counted=None):
    """Sums over a batch; `counted` is 1 for each sample that counts, 0 for padding."""
    return np.asarray(compiled_sums(name)(*arguments_of(name, batch), counted))


def test_every_task_has_a_case_here():
    assert CASES.keys() == TASKS.keys()


@pytest.mark.parametrize("name", TASKS)
def test_both_backends_have_the_same_sums_and_gradients(name):
    batch = batch_of(name)
    (ours, by_ours), (theirs, by_theirs) = with_torch(name, batch), with_jax(name, batch)
    assert len(ours) == len(task_of(name).names_of_sums(CASES[name].outputs))
    np.testing.assert_allclose(ours, theirs, rtol=1e-12, atol=1e-13)
    np.testing.assert_allclose(by_ours, by_theirs, rtol=1e-12, atol=1e-14)
    assert np.abs(by_ours).max() > 1e-3


@pytest.mark.parametrize("name", TASKS)
def test_sums_over_two_parts_of_a_batch_add_up_to_those_of_the_whole(name):
    batch = batch_of(name)
    parts = [{n: field[half] for n, field in batch.items()} for half in (np.s_[:3], np.s_[3:])]
    for sums in (lambda *case: with_torch(*case)[0], sums_with_jax):
        whole = sums(name, batch)
        halves = sum(sums(name, part) for part in parts)
        np.testing.assert_allclose(halves, whole, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("name", TASKS)
def test_padding_of_the_last_batch_of_an_evaluation_is_not_counted(name):
    batch = batch_of(name)
    samples = len(next(iter(batch.values())))
    counted = (np.arange(samples) < 3).astype(float)
    padded = sums_with_jax(name, batch, jnp.asarray(counted))
    alone = sums_with_jax(name, {n: field[:3] for n, field in batch.items()})
    np.testing.assert_allclose(padded, alone, rtol=1e-12)


def metrics_of(name):
    """Metrics of a batch, and the batch."""
    batch, task = batch_of(name), task_of(name)
    sums, _ = with_torch(name, batch)
    named = dict(zip(task.names_of_sums(CASES[name].outputs), sums.tolist(), strict=True))
    return task.metrics(named, {n: field.shape for n, field in batch.items()}), batch


def test_multilabel_metrics_match_scikit_learn():
    from sklearn.metrics import f1_score, log_loss

    found, batch = metrics_of("multilabel")
    logits = batch["features"] @ CASES["multilabel"].weight
    labels, said = batch["labels"], logits > 0
    chances = 1 / (1 + np.exp(-logits))
    by_class = [log_loss(labels[:, c], chances[:, c], labels=[0, 1]) for c in range(3)]
    assert found == pytest.approx(
        {
            "loss": np.mean(by_class),
            "macro_f1": f1_score(labels, said, average="macro", zero_division=0),
            "micro_f1": f1_score(labels, said, average="micro", zero_division=0),
        },
        rel=1e-12,
    )


def test_segmentation_metrics_match_scikit_learn_and_leave_ignored_pixels_out():
    from sklearn.metrics import jaccard_score

    found, batch = metrics_of("segmentation")
    logits = batch["image"] @ CASES["segmentation"].weight
    counted = batch["mask"] != 255
    true, said = batch["mask"][counted], logits.argmax(-1)[counted]
    logs = log_softmax(logits, axis=-1)[counted]
    assert found == pytest.approx(
        {
            "loss": -logs[np.arange(len(true)), true].mean(),
            "accuracy": (true == said).mean(),
            "mean_iou": jaccard_score(true, said, average="macro"),
        },
        rel=1e-12,
    )


def test_seq2seq_metrics_are_those_of_the_tokens_up_to_the_first_padding():
    found, batch = metrics_of("seq2seq")
    weight, target = CASES["seq2seq"].weight, batch["target"]
    logits = np.zeros((*target.shape, 3))
    for row, place in np.ndindex(target.shape):  # each token from the right one before it
        before = target[row, place - 1] if place else PADDING
        logits[row, place] = weight[before] + weight[batch["source"][row, 0]]
    logs, said, counted = log_softmax(logits, axis=-1), logits.argmax(-1), target != PADDING
    counted[:, 1:] |= counted[:, :-1]
    loss = -np.take_along_axis(logs, target[..., None], -1)[..., 0][counted].mean()
    right = [(said[row] == target[row])[counted[row]] for row in range(len(target))]
    assert counted.sum() == TASKS["seq2seq"]().count_terms(batch) == 21
    assert found == pytest.approx(
        {
            "loss": loss,
            "perplexity": np.exp(loss),
            "accuracy": np.concatenate(right).mean(),
            "exact_match": np.mean([row.all() for row in right]),
        },
        rel=1e-12,
    )
    assert 0 < found["exact_match"] < found["accuracy"] < 1


def test_masked_language_hides_the_chosen_tokens_in_the_shares_of_bert():
    task, shape = TASKS["masked_language"](), (200, 500)
    batch = {n: task.draw(n, generator(0, n), {"tokens": shape}) for n in task.noise}
    batch["tokens"] = np.tile(np.arange(10), (200, 50))
    seen = []
    _, loss = losses("masked_language", outputs=11, tokens=batch["tokens"])
    loss.outputs(lambda _, tokens: seen.append(np.asarray(tokens)), None, batch)
    chosen, (shown,) = batch["choice"] < 15, seen
    assert chosen.mean() == pytest.approx(0.15, abs=0.005)
    assert task.count_terms(batch) == chosen.sum()
    np.testing.assert_array_equal(shown[~chosen], batch["tokens"][~chosen])
    hidden, unchanged = shown[chosen] == 10, shown[chosen] == batch["tokens"][chosen]
    assert hidden.mean() == pytest.approx(0.8, abs=0.01)
    # A tenth is replaced by any of the ten tokens, itself included.
    assert unchanged.mean() == pytest.approx(0.1 + 0.1 / 10, abs=0.01)


def test_the_noisy_image_has_the_variance_that_its_level_says():
    kept = Denoising().kept_signal()
    assert len(kept) == 1000
    assert (kept[0], kept[-1]) == pytest.approx((1 - 1e-4, 4.036e-5), rel=1e-3)
    task, shape = TASKS["denoising"](), (64, 16, 16, 3)
    batch = {n: task.draw(n, generator(0, n), {"image": shape}) for n in task.noise}
    batch["image"] = RANDOM.normal(size=shape)
    assert set(batch["time"]) <= set(range(1000))
    seen = []
    _, loss = losses("denoising", image=batch["image"])
    loss.outputs(lambda _, noisy, time: seen.append(np.asarray(noisy)), None, batch)
    level = kept[batch["time"]].reshape(-1, 1, 1, 1)
    rest = seen[0] - np.sqrt(level) * batch["image"]
    np.testing.assert_allclose(rest / np.sqrt(1 - level), batch["noise"], rtol=1e-9, atol=1e-9)


def by_hand(views, temperature):
    """Mean loss and accuracy of NT-Xent, equation 1 of Chen et al. 2020: embeddings of both views."""
    both = np.concatenate(views)
    both /= np.linalg.norm(both, axis=1, keepdims=True)
    samples, losses, right = len(views[0]), [], []
    for place, one in enumerate(both):
        others = np.delete(np.arange(2 * samples), place)
        cosines, partner = both[others] @ one / temperature, (place + samples) % (2 * samples)
        losses.append(-log_softmax(cosines)[others == partner].item())
        right.append(others[cosines.argmax()] == partner)
    return np.mean(losses), np.mean(right)


@pytest.mark.parametrize(("training", "size"), [(True, 6), (False, 3)], ids=["batch", "groups"])
def test_a_view_is_compared_with_the_whole_batch_and_in_an_evaluation_with_its_group(
    training, size
):
    case, batch = CASES["contrastive"], batch_of("contrastive")
    embeddings = [case.model(case.weight, batch[name]) for name in ("image", "view")]
    pair = losses("contrastive", outputs=5, config=case.config, **case.fields)
    for loss, array in zip(pair, (torch.tensor, jnp.asarray), strict=True):
        sums = loss.sums(array(np.stack(embeddings, axis=1)), {}, training=training)
        named = dict(zip(("loss", "hits"), map(float, sums), strict=True))
        found = task_of("contrastive").metrics(named, {"image": (6,)})
        groups = [
            by_hand([e[first : first + size] for e in embeddings], 0.3)
            for first in range(0, 6, size)
        ]
        expected = dict(zip(("loss", "accuracy"), np.mean(groups, axis=0), strict=True))
        assert found == pytest.approx(expected, rel=1e-12)
        assert 0 < found["accuracy"] < 1


@pytest.mark.parametrize("several", [True, False], ids=["two arrays", "another axis"])
def test_embeddings_of_another_structure_are_refused_with_the_shape_that_is_needed(several):
    case, batch = CASES["contrastive"], batch_of("contrastive")
    ours, theirs = losses("contrastive", outputs=5, config=case.config, **case.fields)
    in_torch = {name: torch.tensor(field) for name, field in batch.items()}
    in_jax = {name: jnp.asarray(field) for name, field in batch.items()}
    found = "a tuple with 0 .*, 1 .*" if several else r"\[6, 2, 4, 3, 2\]"
    problem = rf"it returns {found}, and the loss needs an array \[batch, 2, width\]"
    with pytest.raises(UserError, match=problem):
        ours.outputs(lambda x: (x, x) if several else x, in_torch)
    with pytest.raises(UserError, match=problem):
        theirs.outputs(lambda _, x: (x, x) if several else x, {}, in_jax)


def own_losses(torch_name, jax_name, **keys):
    """Losses of both backends at names of `own_losses`."""
    config = OwnTaskConfig(
        torch=f"own_losses:{torch_name}", jax=f"own_losses:{jax_name}", targets=["target"], **keys
    )
    return losses("own", config=config, features=np.ones((6, 4)), target=np.ones((6, 3)))


def test_a_mean_over_the_batch_counts_as_often_as_there_are_samples_that_count():
    ours, theirs = own_losses("torch_mean", "jax_mean")
    outputs, target = RANDOM.normal(size=(6, 3)), RANDOM.normal(size=(6, 3))
    expected = np.square(outputs - target).mean(1)
    (total,) = ours.sums(torch.tensor(outputs), {"target": torch.tensor(target)})
    assert float(total) == pytest.approx(expected.sum(), rel=1e-12)
    counted = jnp.array([1.0, 1, 1, 1, 0, 0])
    (part,) = theirs.sums(jnp.asarray(outputs), {"target": jnp.asarray(target)}, counted=counted)
    assert float(part) == pytest.approx(expected[:4].sum(), rel=1e-12)


def pairs_by_hand(outputs, label):
    """Sums of `own_losses.torch_pairs` over samples that are compared with each other."""
    distance = np.square(outputs[:, None] - outputs).sum(-1)
    loss = np.where(label[:, None] == label, distance, np.maximum(1 - distance, 0))
    return np.array([loss.mean(1).sum(), distance.mean() * len(label)])


@pytest.mark.parametrize("training", [True, False])
def test_an_own_loss_of_the_whole_batch_gets_it_and_in_an_evaluation_its_groups(training):
    keys = {"torch": "own_losses:torch_pairs", "jax": "own_losses:jax_pairs", "group": 4}
    config = OwnTaskConfig(
        **keys, targets=["label"], metrics=["distance"], whole_batch=True, outputs=2
    )
    outputs, label = RANDOM.normal(size=(12, 2)) / 2, RANDOM.integers(0, 3, 12)
    ours, theirs = losses("own", config=config, features=np.ones((10, 4)), label=label[:10])
    number = 12 if training else 10  # the two behind the last group are padding on JAX
    groups = [range(12)] if training else [range(4), range(4, 8), range(8, 10)]
    expected = sum(pairs_by_hand(outputs[rows], label[rows]) for rows in map(list, groups))
    batch = {"label": torch.tensor(label[:number]), "unseen": torch.ones(number)}
    found = ours.sums(torch.tensor(outputs[:number]), batch, training=training)
    np.testing.assert_allclose(np.array(found), expected, rtol=1e-12)
    counted = None if training else (jnp.arange(12) < number).astype(float)
    batch = {"label": jnp.asarray(label), "unseen": jnp.ones(12)}
    sums = jax.jit(
        lambda outputs: jnp.array(theirs.sums(outputs, batch, training=training, counted=counted))
    )
    np.testing.assert_allclose(sums(jnp.asarray(outputs)), expected, rtol=1e-12)


@pytest.mark.parametrize("training", [True, False])
def test_an_own_loss_of_two_views_can_be_that_of_the_built_in_task(training):
    case, batch = CASES["contrastive"], batch_of("contrastive")
    config = OwnTaskConfig(
        torch="own_losses:torch_simclr",
        jax="own_losses:jax_simclr",
        views={"view": "image"},
        outputs=5,
        metrics=["accuracy"],
        whole_batch=True,
        group=3,
    )
    data = {"image": case.fields["image"]}
    pairs = [
        losses("contrastive", outputs=5, config=case.config, **data),
        losses("own", outputs=5, config=config, **data),
    ]
    in_torch = {name: torch.tensor(field).movedim(-1, 1) for name, field in batch.items()}
    in_jax = {name: jnp.asarray(field) for name, field in batch.items()}
    weight = torch.tensor(case.weight)
    sums = []
    for ours, theirs in pairs:
        assert ours.inputs == ("image",)
        outputs = ours.outputs(lambda x: case.model(weight, x.movedim(1, -1)), in_torch)
        sums.append([float(value) for value in ours.sums(outputs, in_torch, training=training)])
        outputs = theirs.outputs(case.model, case.weight, in_jax)
        sums.append([float(value) for value in theirs.sums(outputs, in_jax, training=training)])
    built_in = np.array(sums[0]) / [1, 2]  # hits are of both views
    np.testing.assert_allclose(sums[2], built_in, rtol=1e-12)
    np.testing.assert_allclose(sums[3], built_in, rtol=1e-12)


def test_a_loss_of_the_whole_batch_refuses_outputs_of_several_arrays():
    config = {"whole_batch": True, "outputs": 2, "metrics": ["distance"]}
    for loss, array in zip(
        own_losses("torch_pairs", "jax_pairs", **config), (torch.ones, jnp.ones), strict=True
    ):
        with pytest.raises(UserError, match=r"returns tuple, .* one array.*model\.output"):
            loss.sums((array((6, 3)), array((6, 3))), {"target": array((6, 3))}, training=True)


@pytest.mark.parametrize(
    ("name", "keys", "problem"),
    [
        ("whole", {}, r"own_losses:whole: its loss is an array \[6, 3\].*Return a number for each"),
        (
            "broken",
            {},
            r"own_losses:broken: it fails: KeyError: 'missing'.*batch of target \[6, 3\]",
        ),
        ("{}_huber", {}, r"it returns loss, mae, not loss. Set task.metrics=\[mae\]"),
        ("{}_mean", {"metrics": ["mae"]}, r"it returns loss, not loss, mae. Set task.metrics=\[\]"),
        ("nothing", {}, r"own_losses:nothing: own_losses.* has no nothing"),
    ],
)
def test_a_loss_that_returns_something_else_is_refused_on_either_backend(name, keys, problem):
    for side, make in enumerate((torch.ones, jnp.ones)):
        with pytest.raises(UserError, match=problem):
            own_losses(name.format("torch"), name.format("jax"), **keys)[side].sums(
                make((6, 3)), {"target": make((6, 3))}
            )


def test_a_summary_makes_metrics_from_the_means_over_the_samples():
    task = TASKS["own"](OwnTaskConfig(targets=["target"], summary="own_losses:root"))
    assert task.metrics({"loss": 8.0}, {"target": (2, 3)}) == {"loss": 4.0, "rmse": 2.0}
