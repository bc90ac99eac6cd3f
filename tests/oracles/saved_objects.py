"""`saved_objects.py FOLDER FILE`: saved objects of Kibana against the form that FOLDER describes.

FILE holds one saved object a line. Beyond the schema: ids are of one object each, references lead to objects of the
file and are all used, columns that a drawing names are there with buckets before figures, panels lie side by side.
Prints how many objects of each type there are, and {panels}.
"""

import collections
import json
import os
import sys

from jsonschema import Draft202012Validator, validators

from archive import check, fail


def content(validator, schema, instance, _parent):
    """Strings that hold JSON, which JSON Schema leaves to the application."""
    try:
        value = json.loads(instance)
    except ValueError as e:
        fail(f"a string that is no JSON: {e}: {instance[:80]}")
    yield from validator.descend(value, schema)


def references(holder):
    found = {r["name"]: (r["type"], r["id"]) for r in holder["references"]}
    check(len(found) == len(holder["references"]), f"two references have one name: {holder['references']}")
    return found


def drawn(visualization):
    """The layers and columns that a drawing names."""
    for layer in visualization.get("layers", [visualization]):
        columns = [layer.get(k) for k in ("xAccessor", "splitAccessor", "metricAccessor")]
        columns += layer.get("accessors", []) + [c["columnId"] for c in layer.get("columns", [])]
        yield layer["layerId"], [c for c in columns if c]


def lens(name, attributes):
    state = attributes["state"]
    layers = state["datasourceStates"]["formBased"]["layers"]
    for layer in layers.values():
        order, columns = layer["columnOrder"], layer["columns"]
        check(sorted(order) == sorted(columns), f"{name}: columnOrder does not list the columns")
        buckets = [columns[c]["isBucketed"] for c in order]
        check(buckets == sorted(buckets, reverse=True), f"{name}: a figure stands before a bucket")
        for column in columns.values():
            if column["operationType"] == "date_histogram" and column["sourceField"] != "@timestamp":
                params = column["params"]
                check(params.get("ignoreTimeRange") and params["interval"] != "auto", f"{name}: another range of time")
            by = column.get("params", {}).get("orderBy", {})
            if by.get("type") == "column":
                check(not columns[by["columnId"]]["isBucketed"], f"{name}: ordered by a bucket")
    shown = dict(drawn(state["visualization"]))
    check(shown.keys() == layers.keys(), f"{name}: the drawing's layers are not those of the data")
    for layer, columns in shown.items():
        check(sorted(columns) == sorted(layers[layer]["columns"]), f"{name}: not every column is drawn once")
    return {f"indexpattern-datasource-layer-{layer}" for layer in layers}


def dashboard(found):
    attributes, have = found["attributes"], references(found)
    need, cells, indices = {}, set(), set()
    panels = json.loads(attributes["panelsJSON"])
    for panel in panels:
        index, grid = panel["panelIndex"], panel["gridData"]
        name = f"{attributes['title']}: {panel.get('title')}"
        check(index not in indices and grid["i"] == index, f"{name}: its index is not its own")
        indices.add(index)
        check(grid["x"] + grid["w"] <= 48, f"{name}: wider than the grid")
        for x in range(grid["x"], grid["x"] + grid["w"]):
            for y in range(grid["y"], grid["y"] + grid["h"]):
                check((x, y) not in cells, f"{name}: lies on another panel")
                cells.add((x, y))
        if panel["type"] == "lens":
            own = references(panel["embeddableConfig"]["attributes"])
            check(own.keys() == lens(name, panel["embeddableConfig"]["attributes"]), f"{name}: references of layers")
            need |= {f"{index}:{reference}": to for reference, to in own.items()}
        else:
            reference = f"{index}:{panel['panelRefName']}"
            check(have.get(reference, ("",))[0] == "search", f"{name}: no reference to a search")
            need[reference] = have[reference]
    for control, panel in json.loads(attributes["controlGroupInput"]["panelsJSON"]).items():
        check(panel["explicitInput"]["id"] == control, f"{control}: its id is not its own")
        need[f"controlGroup_{control}:optionsListDataView"] = ("index-pattern", "keytrail-events")
    check(need == have, f"{attributes['title']}: references {sorted(need.items() ^ have.items())}")
    return len(panels)


def main(folder, file):
    schema = json.load(open(os.path.join(folder, "saved-object.schema.json"), encoding="utf-8"))
    Draft202012Validator.check_schema(schema)
    validator = validators.extend(Draft202012Validator, {"contentSchema": content})(schema)
    objects = [json.loads(line) for line in open(file, encoding="utf-8")]
    counts = collections.Counter({"panels": 0})
    ids = {(o["type"], o["id"]) for o in objects}
    check(len(ids) == len(objects), "two objects have one id")
    for found in objects:
        kinds = {"index-pattern": "dataView", "search": "search", "dashboard": "dashboard"}
        check(found["type"] in kinds, f"type {found['type']}")
        # One of the three alone, so that an error says what is wrong and not that none fits.
        one = validator.evolve(schema={"$ref": f"#/$defs/{kinds[found['type']]}", "$defs": schema["$defs"]})
        for error in one.iter_errors(found):
            fail(f"{found['id']}: {error.json_path}: {error.message[:300]}")
        check(validator.is_valid(found), f"{found['id']}: of no type")
        for to in references(found).values():
            check(to in ids, f"{found['id']}: refers to {to}, which is not there")
        counts[found["type"]] += 1
        if found["type"] == "dashboard":
            counts["panels"] += dashboard(found)
        if found["type"] == "search":
            source = json.loads(found["attributes"]["kibanaSavedObjectMeta"]["searchSourceJSON"])
            check(references(found).keys() == {source["indexRefName"]}, f"{found['id']}: its data view")
    print(json.dumps(counts))


main(*sys.argv[1:])
