package inventory

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// maxSize bounds an inventory file, in bytes.
const maxSize = 4 << 20

// Load reads, fills in and validates an inventory. The error is an Errors with everything that is wrong.
func Load(path string) (*Inventory, error) {
	inv, _, err := LoadWithWarnings(path)
	return inv, err
}

// LoadWithWarnings is Load that also says what is probably not meant.
func LoadWithWarnings(path string) (*Inventory, []Warning, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, nil, fmt.Errorf("inventory: %w; `catamaran inventory init` writes a starter", err)
	}
	data, err := io.ReadAll(io.LimitReader(f, maxSize+1))
	if err = errors.Join(err, f.Close()); err != nil {
		return nil, nil, fmt.Errorf("inventory: %w", err)
	}
	return read(data, path, true)
}

// Parse is Load of a file that is in memory already; whether files that it names exist is not looked at.
func Parse(data []byte, path string) (*Inventory, error) {
	inv, _, err := read(data, path, false)
	return inv, err
}

func read(data []byte, path string, files bool) (*Inventory, []Warning, error) {
	abs, err := filepath.Abs(filepath.Dir(path))
	if err != nil {
		return nil, nil, err
	}
	inv := &Inventory{Path: path, Dir: abs}
	if inv.root, err = document(data, path); err != nil {
		return nil, nil, err
	}
	d := &decoder{file: path}
	d.decode(inv.root, reflect.ValueOf(inv).Elem(), &place{}, checks{})
	if d.stopped {
		return nil, nil, d.errs.or()
	}
	v := &validator{inv: inv, files: files, errs: d.errs, decoded: len(d.errs), assumed: inv.fill()}
	v.validate()
	if err := v.errs.or(); err != nil {
		return nil, v.sorted(), err
	}
	return inv, v.sorted(), nil
}

// yamlLine finds the position that the YAML library puts into its message.
var yamlLine = regexp.MustCompile(`^yaml: line (\d+): (.*)$`)

// document parses the only document of a file.
func document(data []byte, path string) (root *yaml.Node, err error) {
	if len(data) > maxSize {
		return nil, Errors{{File: path, Message: fmt.Sprintf("the file is larger than %d MiB", maxSize>>20)}}
	}
	dec := yaml.NewDecoder(bytes.NewReader(data))
	doc, err := next(dec, path)
	if err != nil {
		return nil, err
	}
	if doc == nil || isNull(doc) {
		return nil, Errors{{File: path, Message: "the file is empty", Hint: "`catamaran inventory init` writes a starter"}}
	}
	more, err := next(dec, path)
	if err != nil {
		return nil, err
	}
	if more != nil {
		return nil, Errors{{File: path, Line: more.Line, Column: more.Column, Message: "the file holds a second document", Hint: "one inventory is one document"}}
	}
	return doc, nil
}

// next parses one more document; nil: there is none.
func next(dec *yaml.Decoder, path string) (root *yaml.Node, err error) {
	defer func() {
		if r := recover(); r != nil { // the library panics where it meets what it thinks impossible
			root, err = nil, Errors{{File: path, Message: fmt.Sprintf("the YAML can not be read: %v", r)}}
		}
	}()
	var doc yaml.Node
	err = dec.Decode(&doc)
	if errors.Is(err, io.EOF) || err == nil && len(doc.Content) == 0 {
		return nil, nil
	}
	if err != nil {
		e := Error{File: path, Message: strings.TrimPrefix(err.Error(), "yaml: ")}
		if m := yamlLine.FindStringSubmatch(err.Error()); m != nil {
			e.Line, _ = strconv.Atoi(m[1]) // the expression matched digits
			e.Message = m[2]
		}
		return nil, Errors{e}
	}
	return doc.Content[0], nil
}
