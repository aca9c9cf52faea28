"""Reads /metrics as strictly as Prometheus does, and more: whatever is odd fails the test that looks."""

import re
from dataclasses import dataclass, field

NAME = r"[a-z_][a-z0-9_]*"
SAMPLE = re.compile(rf'({NAME})(?:\{{((?:{NAME}="(?:[^"\\\n]|\\[\\"n])*",?)+)\}})? ([0-9.]+|\+Inf)')
LABEL = re.compile(rf'({NAME})="((?:[^"\\]|\\.)*)"')
SUFFIXES = ("_bucket", "_sum", "_count")


@dataclass
class Metric:
    name: str
    type: str
    help: str
    samples: list = field(default_factory=list)  # (sample's name, labels as a dict, value)

    def label_names(self):
        return sorted({name for _, labels, _ in self.samples for name in labels} - {"le"})


def unescape(value):
    return re.sub(r"\\(.)", lambda found: "\n" if found[1] == "n" else found[1], value)


class Metrics:
    """`metrics["belfry_closed_total", "code=1000"]` is the value of that sample, 0 where it is not there yet. Without all
    labels: the sum of those that fit. Of a histogram: name it with _count, _sum or _bucket."""

    def __init__(self, text):
        self.text = text
        self.all = {}
        self.series = {}
        assert text.endswith("\n")
        current = None
        for line in text[:-1].split("\n"):
            if line.startswith("# HELP "):
                _, _, name, told = line.split(" ", 3)
                assert name not in self.all, f"{name} is there twice"
                current = self.all[name] = Metric(name, "", told)
            elif line.startswith("# TYPE "):
                _, _, name, kind = line.split(" ")
                assert current and name == current.name and kind in ("counter", "gauge", "histogram"), line
                current.type = kind
            else:
                self.read_sample(current, line)
        for metric in self.all.values():
            self.check(metric)

    def read_sample(self, metric, line):
        found = SAMPLE.fullmatch(line)
        assert found, f"not a sample: {line!r}"
        name, labels, value = found.groups()
        labels = {key: unescape(v) for key, v in LABEL.findall(labels or "")}
        suffix = name.removeprefix(metric.name)
        assert suffix in (SUFFIXES if metric.type == "histogram" else ("",)), f"{line!r} stands below {metric.name}"
        key = (name, *sorted(labels.items()))
        assert key not in self.series, f"{key} is there twice"
        self.series[key] = float(value)
        metric.samples.append((name, labels, float(value)))

    def check(self, metric):
        assert metric.type, f"{metric.name} has no type"
        assert (metric.type == "counter") == metric.name.endswith("_total"), metric.name
        if metric.type != "histogram":
            return
        buckets = {}
        for name, labels, value in metric.samples:
            bound = labels.pop("le", None)
            one = buckets.setdefault(tuple(sorted(labels.items())), [])
            if name.endswith("_bucket"):
                one.append((float(bound), value))
            elif name.endswith("_count"):
                assert one[-1] == (float("inf"), value), f"{metric.name}: its count is not its last bucket"
        for one in buckets.values():
            assert one == sorted(one) and [v for _, v in one] == sorted(v for _, v in one), metric.name

    def __getitem__(self, key):
        name, *labels = (key,) if isinstance(key, str) else key
        asked = {tuple(label.split("=", 1)) for label in labels}
        base = re.sub("_(bucket|sum|count)$", "", name)
        assert name in self.all or base in self.all, f"there is no {name}"
        return sum(v for (n, *has), v in self.series.items() if n == name and asked <= set(has))
