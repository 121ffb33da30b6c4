package manifest

import (
	"fmt"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// value is a YAML node with where it stands. Its methods report what is wrong
// with it and go on, so that one run finds everything.
type value struct {
	doc  *document
	node *yaml.Node // never an alias
	path string
	line int
	// offset is added to the lines of nodes: those of YAML within a string
	// of YAML count from 1 again.
	offset int
}

// fields says what to do with each key of an object; a key that is not in it
// is a problem.
type fields map[string]func(value)

// ignored is for fields that mean nothing here, but that a cluster knows.
func ignored(value) {}

// problem reports what is wrong with v.
func (v value) problem(format string, args ...any) {
	v.doc.broken = true
	v.doc.load.add(&Problem{File: v.doc.file, Line: v.line, Field: v.path, Message: fmt.Sprintf(format, args...)})
}

// at is the field of that name, whether it is there or not; without a node it
// serves only to report.
func (v value) at(name string) value {
	v.node = nil
	if v.path != "" {
		name = v.path + "." + name
	}
	v.path = name
	return v
}

// of gives v another node and its line. What an alias stands for keeps the
// lines that it has where it was written.
func (v value) of(n *yaml.Node) value {
	v.node, v.line = n, n.Line+v.offset
	for v.node.Kind == yaml.AliasNode && v.node.Alias != nil {
		v.node = v.node.Alias
	}
	return v
}

// null: Kubernetes takes a field that is null for one that is not there.
func (v value) null() bool {
	return v.node == nil || v.node.Kind == 0 || v.node.Kind == yaml.ScalarNode && v.node.ShortTag() == "!!null"
}

// kind names what v is, for a reader.
func (v value) kind() string {
	switch v.node.Kind {
	case yaml.MappingNode:
		return "an object"
	case yaml.SequenceNode:
		return "a list"
	case yaml.ScalarNode:
	default:
		return "nothing"
	}
	switch v.node.ShortTag() {
	case "!!int", "!!float":
		return "the number " + v.text()
	case "!!bool":
		return "the boolean " + v.text()
	case "!!null":
		return "null"
	default:
		return "the string " + strconv.Quote(v.text())
	}
}

// text is the scalar as it was written, shortened for a reader.
func (v value) text() string {
	const most = 80
	if s := v.node.Value; len(s) > most {
		return strings.ToValidUTF8(s[:most], "") + "..."
	}
	return v.node.Value
}

// object hands each field of v to its function, in the order of the file.
func (v value) object(known fields) {
	v.eachField(func(key string, field value) {
		set, ok := known[key]
		switch {
		case !ok:
			field.problem("unknown field%s", suggestion(key, known))
		case !field.null():
			set(field)
		}
	})
}

// eachField calls f for each key of an object once, and reports keys that are
// there twice or are no strings.
func (v value) eachField(f func(key string, field value)) {
	if v.null() {
		return
	}
	if v.node.Kind != yaml.MappingNode {
		v.problem("want an object, got %s", v.kind())
		return
	}
	seen := make(map[string]int, len(v.node.Content)/2)
	for i := 0; i+1 < len(v.node.Content); i += 2 {
		key := v.at("(key)").of(v.node.Content[i])
		if key.node.Kind != yaml.ScalarNode {
			key.problem("want a string as key, got %s", key.kind())
			continue
		}
		name := key.node.Value
		field := v.at(name)
		field.line = key.line
		switch first, twice := seen[name]; {
		case key.node.ShortTag() == "!!merge":
			field.problem("merge keys are not read here; write the fields out")
		case !isString(key.node):
			field.problem("want a string as key, got %s; quote it", key.kind())
		case twice:
			field.problem("is there twice; first on line %d", first)
		default:
			seen[name] = key.line
			f(name, field.of(v.node.Content[i+1]))
		}
	}
}

// eachFieldQuietly is eachField for a first or second look: what is wrong with
// the keys is reported by the other one.
func (v value) eachFieldQuietly(f func(key string, field value)) {
	if v.null() || v.node.Kind != yaml.MappingNode {
		return
	}
	seen := make(map[string]bool)
	for i := 0; i+1 < len(v.node.Content); i += 2 {
		key := v.of(v.node.Content[i])
		name := key.node.Value
		if seen[name] || !isString(key.node) {
			continue
		}
		seen[name] = true
		field := v.at(name)
		field.line = key.line
		f(name, field.of(v.node.Content[i+1]))
	}
}

// has tells whether an object has a field that is not null; what is no object
// was reported, and lacks nothing.
func (v value) has(name string) bool {
	if v.null() || v.node.Kind != yaml.MappingNode {
		return !v.null()
	}
	found := false
	v.eachFieldQuietly(func(key string, field value) {
		found = found || key == name && !field.null()
	})
	return found
}

// require reports the fields that an object lacks.
func (v value) require(names ...string) {
	for _, name := range names {
		if !v.has(name) {
			v.at(name).problem("is required")
		}
	}
}

// list calls f for each item of a list.
func (v value) list(f func(item value)) {
	if v.null() {
		return
	}
	if v.node.Kind != yaml.SequenceNode {
		v.problem("want a list, got %s", v.kind())
		return
	}
	for i, n := range v.node.Content {
		item := v
		item.path = v.path + "[" + strconv.Itoa(i) + "]"
		item = item.of(n)
		if item.null() {
			item.problem("is empty")
			continue
		}
		f(item)
	}
}

// nonEmptyList is list for one that has an item.
func (v value) nonEmptyList(f func(item value)) {
	if v.node.Kind == yaml.SequenceNode && len(v.node.Content) == 0 {
		v.problem("is empty: want at least one")
	}
	v.list(f)
}

// str is the string v, "" after a report if it is none.
func (v value) str() string {
	if v.node.Kind != yaml.ScalarNode || !isString(v.node) {
		hint := ""
		if v.node.Kind == yaml.ScalarNode {
			hint = "; quote it"
		}
		v.problem("want a string, got %s%s", v.kind(), hint)
		return ""
	}
	return v.node.Value
}

// integer is the whole number v within bounds, or least after a report.
func (v value) integer(least, most int64) int64 {
	if v.node.Kind != yaml.ScalarNode || v.node.ShortTag() != "!!int" {
		v.problem("want a whole number, got %s", v.kind())
		return least
	}
	n, err := strconv.ParseInt(v.node.Value, 0, 64)
	if err != nil || n < least || n > most {
		v.problem("want a whole number from %d to %d, got %s", least, most, v.text())
		return least
	}
	return n
}

// oneOf is the string v if it is one of those given, else "" after a report.
func (v value) oneOf(allowed ...string) string {
	s := v.str()
	for _, a := range allowed {
		if s == a {
			return s
		}
	}
	if isString(v.node) {
		v.problem("want %s, got %q", orList(allowed), v.text())
	}
	return ""
}

// stringMap is for labels and annotations.
func (v value) stringMap() map[string]string {
	m := make(map[string]string)
	v.eachField(func(key string, field value) {
		if field.null() {
			m[key] = ""
			return
		}
		m[key] = field.str()
	})
	return m
}

// isString tells whether a scalar is a string both here and on a cluster,
// whose YAML 1.1 takes some plain words for booleans.
func isString(n *yaml.Node) bool {
	if n.Kind != yaml.ScalarNode || n.ShortTag() != "!!str" {
		return false
	}
	if n.Style&(yaml.DoubleQuotedStyle|yaml.SingleQuotedStyle|yaml.LiteralStyle|yaml.FoldedStyle|yaml.TaggedStyle) != 0 {
		return true
	}
	switch n.Value {
	case "y", "Y", "yes", "Yes", "YES", "on", "On", "ON", "n", "N", "no", "No", "NO", "off", "Off", "OFF":
		return false
	}
	return true
}

// orList joins words for a reader: a, b or c.
func orList(words []string) string {
	if len(words) < 2 {
		return strings.Join(words, "")
	}
	last := len(words) - 1
	return strings.Join(words[:last], ", ") + " or " + words[last]
}

// suggestion names the known field that key most likely stands for: one that
// differs in case only, or in one letter.
func suggestion(key string, known fields) string {
	best := ""
	for k := range known {
		if (strings.EqualFold(k, key) || oneEdit(k, key)) && (best == "" || k < best) {
			best = k
		}
	}
	if best == "" {
		return ""
	}
	return "; did you mean " + best + "?"
}

// oneEdit tells whether one letter added, left out or exchanged makes a of b.
func oneEdit(a, b string) bool {
	if len(a) > len(b) {
		a, b = b, a
	}
	if len(b)-len(a) > 1 || len(a) < 3 {
		return false
	}
	i := 0
	for i < len(a) && a[i] == b[i] {
		i++
	}
	if len(a) == len(b) {
		return i < len(a) && a[i+1:] == b[i+1:]
	}
	return a[i:] == b[i+1:]
}
