"""Studies continue where they were interrupted, and their tables say what is in their rows."""

from analysis import study_methods, tune_rates


def test_rates_are_tuned_once_and_the_best_is_chosen(tmp_path):
    table = tmp_path / "rates.csv"
    asked = {"methods": ["linear"], "shots": 2, "epochs": 1}
    tune_rates.tune(table, ["tones"], [0.1, 1.0], [0], **asked)
    rows = tune_rates.read(table)
    assert [row["rate"] for row in rows] == ["0.0001", "0.001"]
    assert all(0.2 < float(row["accuracy"]) <= 1 for row in rows)  # chance is 25 %
    tune_rates.tune(table, ["tones"], [0.1, 1.0], [0], **asked)
    assert tune_rates.read(table) == rows


def test_the_highest_accuracy_then_the_lowest_loss_is_chosen():
    base = {"task": "t", "shots": "2", "epochs": "1", "method": "lora"}

    def row(factor, accuracy, loss, seed="0"):
        return base | {"factor": factor, "accuracy": accuracy, "loss": loss, "seed": seed}

    rows = [row("0.1", "0.5", "1.0"), row("0.3", "0.5", "0.9"), row("1", "failed", "failed")]
    assert tune_rates.scores(rows, "lora") == {0.1: (0.5, -1.0), 0.3: (0.5, -0.9), 1.0: (0.0, -1e9)}
    text = tune_rates.report(rows, "command")
    assert "| lora | 0.005 | 50.0 | **50.0** | 0.0 | 0.0015 |" in text


def test_the_study_of_methods_continues_and_tabulates(tmp_path):
    table = tmp_path / "methods.csv"
    asked = {"options": ["default", "matched"], "shots": 2, "epochs": 1}
    study_methods.study(table, ["tones"], ["linear"], [0, 1], **asked)
    rows = study_methods.read(table)
    assert [(row["method"], row["seed"]) for row in rows] == [("linear", "0"), ("linear", "1")]
    study_methods.study(table, ["tones"], ["linear"], [0, 1], **asked)
    assert study_methods.read(table) == rows
    rows[0]["test_accuracy"], rows[1]["test_accuracy"] = "0.5", "0.6"
    text = study_methods.report(rows)
    assert "| Linear probe | 0 | 55.0 ± 7.1 |" in text and "2 clips per class, 1 epochs" in text
