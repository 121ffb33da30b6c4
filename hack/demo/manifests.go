package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"go.yaml.in/yaml/v3"
)

// addressAnnotation of a Service says where it is reached from the dispatcher.
const addressAnnotation = "sidestep.dev/address"

// rewriteAll copies the YAML files of a folder, with the Services' addresses
// replaced.
func rewriteAll(from, to string, addresses map[string]string) error {
	files, err := filepath.Glob(filepath.Join(from, "*.yaml"))
	if err != nil || len(files) == 0 {
		return fmt.Errorf("find YAML files in %s: %w", from, errors.Join(err, os.ErrNotExist))
	}
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err == nil {
			data, err = rewrite(data, addresses)
		}
		if err == nil {
			err = os.WriteFile(filepath.Join(to, filepath.Base(file)), data, 0o640)
		}
		if err != nil {
			return fmt.Errorf("rewrite %s: %w", file, err)
		}
	}
	return nil
}

// rewrite replaces the address of every Service by that of the step with the
// Service's name, and leaves all else as it is, comments too.
func rewrite(data []byte, addresses map[string]string) ([]byte, error) {
	var out bytes.Buffer
	enc := yaml.NewEncoder(&out)
	enc.SetIndent(2)
	dec := yaml.NewDecoder(bytes.NewReader(data))
	for {
		var doc yaml.Node
		err := dec.Decode(&doc)
		if errors.Is(err, io.EOF) {
			break
		}
		if err == nil {
			err = setAddress(&doc, addresses)
		}
		if err == nil {
			err = enc.Encode(&doc)
		}
		if err != nil {
			return nil, err
		}
	}
	if err := enc.Close(); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
}

func setAddress(doc *yaml.Node, addresses map[string]string) error {
	if len(doc.Content) == 0 {
		return nil
	}
	root := doc.Content[0]
	kind, meta := field(root, "kind"), field(root, "metadata")
	if kind == nil || kind.Value != "Service" {
		return nil
	}
	at := field(field(meta, "annotations"), addressAnnotation)
	if at == nil {
		return nil
	}
	name := field(meta, "name")
	if name == nil {
		return fmt.Errorf("line %d: a Service without a name", root.Line)
	}
	address, ok := addresses[name.Value]
	if !ok {
		return fmt.Errorf("line %d: no step is called %q", name.Line, name.Value)
	}
	at.Value = address
	return nil
}

// field is the value of a mapping's key, nil if there is none.
func field(n *yaml.Node, key string) *yaml.Node {
	if n == nil || n.Kind != yaml.MappingNode {
		return nil
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		if n.Content[i].Value == key {
			return n.Content[i+1]
		}
	}
	return nil
}
