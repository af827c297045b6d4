"""A class id means one thing in all splits."""

from datasets.annotations.findings import Findings
from datasets.check.across import RENAMED_CLASSES, note_class_names


def noted(*splits: tuple[str, dict[int, str]]) -> Findings:
    findings = Findings()
    note_class_names(list(splits), findings)
    return findings


def test_classes_that_a_split_lacks_and_upper_case_are_no_matter() -> None:
    assert not len(noted(("train", {1: "cat", 2: "dog"}), ("val", {2: "Dog "}), ("test", {3: "car"})))


def test_another_name_is_refused_with_both_names() -> None:
    finding = noted(("train", {1: "cat"}), ("val", {1: "cat"}), ("test", {1: "dog"}))[RENAMED_CLASSES.name]
    assert (finding.count, finding.example) == (1, "id 1: 'cat' in train, 'dog' in test")
