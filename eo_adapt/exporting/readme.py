"""The page that lies beside the exported files."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .inputs import Axis, Layout


def page_of(about: Mapping[str, Any], files: Mapping[str, Mapping[str, Any]], checks: Mapping[str, float]) -> str:
    """Markdown.

    Args:
        about: The card.
        files: Format -> ``{href, size, sha256}``.
        checks: Format -> largest difference of its logits from the network's, as measured when it was written.
    """
    layout = Layout.from_dict(about)
    use = [
        "## Use",
        "",
        "```python",
        "import eo_adapt",
        'predictor = eo_adapt.load(".")  # this folder, or one of its files',
        f'predictor({{"{layout.sensors[0]}": {{"values": values, "bands": names, ...}}}}).classes',
        "```",
        "",
    ]
    return "\n".join([*_origin(about), *_files(files, checks), *_inputs(about, layout), *_outputs(about), *use])


def _origin(about: Mapping[str, Any]) -> list[str]:
    domains, chosen = about["domains"], about["choices"]
    return [
        f"# {chosen.get('encoder', 'network')} for {about['domain']}",
        "",
        f"Made by {about['made_with']} from the checkpoint {about['checkpoint'][:12]}. Method: "
        f"{chosen.get('method', 'unknown')}; labels of {', '.join(domains['labelled'])}; unlabelled: "
        f"{', '.join(domains['unlabelled']) or 'none'}.",
        "",
        f"Licences of the training data: {', '.join(f'{k}: {v}' for k, v in about['licences'].items())}. They may bind "
        "what you do with the network.",
        "",
    ]


def _files(files: Mapping[str, Mapping[str, Any]], checks: Mapping[str, float]) -> list[str]:
    return [
        "| file | bytes | sha256 | largest difference of logits when written |",
        "|---|---:|---|---:|",
        *(f"| {f['href'][2:]} | {f['size']} | {f['sha256']} | {checks[form]:.1e} |" for form, f in files.items()),
        "",
    ]


def _inputs(about: Mapping[str, Any], layout: Layout) -> list[str]:
    return [
        "## Inputs",
        "",
        f"Values are {about['values_are']}. `item.json` holds all of this for machines (STAC, MLM).",
        "",
        "| input | axes | type |",
        "|---|---|---|",
        *(
            f"| `{e.name}` | {', '.join(e.axes)} | {'bool' if e.field.startswith('valid') else 'float32'} |"
            for e in layout.entries
        ),
        "",
        "| axis | sizes |",
        "|---|---|",
        *(f"| {axis.name} | {_sizes(axis)} |" for axis in layout.axes.values()),
        "",
        "| sensor | bands | unit |",
        "|---|---|---|",
        *(f"| {s} | {', '.join(bands)} | {about['units'][s]} |" for s, bands in about["bands"].items()),
        "",
    ]


def _outputs(about: Mapping[str, Any]) -> list[str]:
    return [
        "## Outputs",
        "",
        f"`logits` and `probabilities` = softmax(logits / {about['temperature']:g}), one class each along axis 1:",
        "",
        "| number | class | code | colour |",
        "|---:|---|---|---|",
        *(
            f"| {i} | {name} | {code} | {about['colours'][name]} |"
            for i, (name, code) in enumerate(zip(about["legend"]["names"], about["legend"]["codes"], strict=True))
        ),
        "",
    ]


def _sizes(axis: Axis) -> str:
    if not axis.dynamic:
        return f"{axis.size}"
    return f"any from {axis.least}" if axis.step == 1 else f"multiples of {axis.step}, from {axis.least}"
