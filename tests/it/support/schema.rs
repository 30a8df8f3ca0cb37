//! Checks JSON against src/doc/json.schema.json: the part of JSON Schema (draft 2020-12) that this file uses. Keys that the
//! schema does not have are refused, though readers must take them: here they are undocumented.

use serde_json::Value;

/// The definitions of the schema.
pub fn definitions() -> Value {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/src/doc/json.schema.json");
    let schema: Value = serde_json::from_str(&std::fs::read_to_string(file).unwrap()).unwrap();
    schema["$defs"].clone()
}

/// Asserts that `value` is as the definition `name` says.
pub fn assert_is(name: &str, value: &Value) {
    let definitions = definitions();
    let schema = &definitions[name];
    assert!(schema.is_object(), "no definition of {name}");
    if let Err(why) = check(schema, value, &definitions, name) {
        panic!("{why}\n{value:#}");
    }
}

/// Whether `value` is as `schema` says; else where it is not.
pub fn check(schema: &Value, value: &Value, definitions: &Value, at: &str) -> Result<(), String> {
    for (word, wanted) in schema.as_object().ok_or_else(|| format!("{at}: no schema"))? {
        let fits = match word.as_str() {
            "$ref" => {
                let name = wanted.as_str().and_then(|path| path.strip_prefix("#/$defs/")).unwrap();
                check(&definitions[name], value, definitions, at)?;
                true
            }
            "anyOf" => {
                let ways = wanted.as_array().unwrap();
                ways.iter().any(|way| check(way, value, definitions, at).is_ok())
            }
            "type" => match wanted.as_array() {
                Some(types) => types.iter().any(|one| is_of(one, value)),
                None => is_of(wanted, value),
            },
            "const" => value == wanted,
            "enum" => wanted.as_array().unwrap().contains(value),
            "minimum" => value.as_f64().is_none_or(|number| number >= wanted.as_f64().unwrap()),
            "required" => {
                let missing = wanted.as_array().unwrap().iter().find(|key| value.get(key.as_str().unwrap()).is_none());
                match missing {
                    Some(key) => return Err(format!("{at}: no {key}")),
                    None => true,
                }
            }
            "items" => {
                for (i, item) in value.as_array().into_iter().flatten().enumerate() {
                    check(wanted, item, definitions, &format!("{at}[{i}]"))?;
                }
                true
            }
            "properties" => {
                for (key, inner) in value.as_object().into_iter().flatten() {
                    match wanted.get(key) {
                        Some(schema) => check(schema, inner, definitions, &format!("{at}.{key}"))?,
                        None => return Err(format!("{at}: {key} is not in the schema")),
                    }
                }
                true
            }
            "additionalProperties" => {
                for (key, inner) in value.as_object().into_iter().flatten() {
                    check(wanted, inner, definitions, &format!("{at}.{key}"))?;
                }
                true
            }
            "description" => true,
            other => return Err(format!("{at}: the word {other} is not known here")),
        };
        if !fits {
            return Err(format!("{at}: {value} is not {wanted} ({word})"));
        }
    }
    Ok(())
}

fn is_of(kind: &Value, value: &Value) -> bool {
    match kind.as_str().unwrap() {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "integer" => value.is_u64() || value.is_i64(),
        "number" => value.is_number(),
        "boolean" => value.is_boolean(),
        "null" => value.is_null(),
        other => panic!("the type {other}"),
    }
}
