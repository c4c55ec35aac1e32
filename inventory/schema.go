package inventory

import (
	"bytes"
	"embed" // the source of the types, for its comments
	"encoding/json"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"reflect"
	"slices"
	"strings"
)

//go:embed types.go pools.go openstack.go vsphere.go external.go cloud.go
var typeSources embed.FS

// Schema is the JSON schema (2020-12) of an inventory file. It is made from the types, their comments and the rules that
// the parser follows. What one value can not tell (a name given twice, networks that overlap, files that are missing)
// and what a pattern can not say (a checksum, an address family) only the parser knows.
func Schema() ([]byte, error) {
	docs, err := comments()
	if err != nil {
		return nil, err
	}
	g := schemaMaker{docs: docs, defs: map[string]any{}}
	g.structure(reflect.TypeFor[Inventory]())
	root := g.defs["Inventory"].(map[string]any)
	delete(g.defs, "Inventory")
	root["$schema"] = "https://json-schema.org/draft/2020-12/schema"
	root["$id"] = "urn:catamaran:inventory:v1alpha1"
	root["title"] = "Catamaran inventory"
	root["$defs"] = g.defs
	var out bytes.Buffer
	e := json.NewEncoder(&out)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	err = e.Encode(root)
	return out.Bytes(), err
}

type schemaMaker struct {
	docs map[string]string // Type and Type.Field
	defs map[string]any
}

// structure adds a struct type to the definitions.
func (g *schemaMaker) structure(t reflect.Type) {
	if _, done := g.defs[t.Name()]; done {
		return
	}
	s := map[string]any{"type": "object", "additionalProperties": false}
	g.defs[t.Name()] = s // before its fields, in case a type holds itself
	describe(s, g.docs[t.Name()])
	properties, required := map[string]any{}, []string{}
	for i := range t.NumField() {
		f := t.Field(i)
		name, c := fieldName(f), checksOf(f.Tag)
		if name == "" {
			continue
		}
		p := g.schema(f.Type, c)
		if c.required {
			required = append(required, name)
		} else {
			p = nullable(p)
		}
		describe(p, g.docs[t.Name()+"."+f.Name])
		properties[name] = p
	}
	s["properties"] = properties
	if len(required) > 0 {
		s["required"] = required
	}
	switch choiceOf(t) {
	case atLeastOne:
		s["anyOf"] = eachSet(fieldNames(t))
	case exactlyOne:
		s["oneOf"] = eachSet(fieldNames(t))
	case atMostOne:
		set := eachSet(fieldNames(t))
		s["oneOf"] = append(slices.Clone(set), map[string]any{"not": map[string]any{"anyOf": set}})
	case anyNumber:
	}
}

// eachSet are schemas that each ask for one of the fields, and that it is not null.
func eachSet(names []string) []any {
	var out []any
	for _, n := range names {
		out = append(out, map[string]any{
			"required": []string{n}, "properties": map[string]any{n: map[string]any{"not": map[string]any{"type": "null"}}},
		})
	}
	return out
}

func (g *schemaMaker) schema(t reflect.Type, c checks) map[string]any {
	if t == reflect.TypeFor[Duration]() {
		return texts(rules["duration"], false)
	}
	switch t.Kind() {
	case reflect.Pointer:
		return g.schema(t.Elem(), c)
	case reflect.Struct:
		g.structure(t)
		return map[string]any{"$ref": "#/$defs/" + t.Name()}
	case reflect.Slice:
		return map[string]any{"type": "array", "items": g.schema(t.Elem(), c.element(t))}
	case reflect.Map:
		values := g.schema(t.Elem(), c.element(t))
		if t.Elem().Kind() == reflect.Struct {
			values = nullable(values)
		}
		s := map[string]any{"type": "object", "additionalProperties": values}
		if c.key != "" {
			keys := texts(rules[c.key], false)
			delete(keys, "type") // keys are nothing else
			s["propertyNames"] = keys
		}
		return s
	case reflect.Bool:
		return map[string]any{"type": "boolean"}
	case reflect.Int:
		s, r := map[string]any{"type": "integer"}, rules[c.self]
		s["minimum"] = r.min
		if r.max > 0 {
			s["maximum"] = r.max
		}
		return s
	case reflect.String:
		return texts(rules[c.self], c.loose)
	}
	return map[string]any{} // any value
}

// texts is the schema of a text that keeps a rule. Keywords about text let everything pass that is no text.
func texts(r rule, loose bool) map[string]any {
	s := map[string]any{"type": "string"}
	if loose {
		s["type"] = []any{"string", "number", "boolean"}
	}
	if r.enum != nil {
		var words []any
		for _, w := range r.enum {
			words = append(words, w)
		}
		s["enum"] = words
	}
	if r.pattern != nil {
		s["pattern"] = r.pattern.String()
	}
	if r.not != nil {
		s["not"] = map[string]any{"type": "string", "pattern": r.not.String()}
	}
	if r.most > 0 {
		s["maxLength"] = r.most
	}
	var formats []any
	for _, f := range r.formats {
		formats = append(formats, map[string]any{"format": f})
	}
	if formats != nil {
		s["anyOf"] = formats
	}
	return s
}

// nullable lets a key stand without a value, which the parser takes for a key that is not there.
func nullable(s map[string]any) map[string]any {
	if ref, ok := s["$ref"]; ok {
		return map[string]any{"anyOf": []any{map[string]any{"$ref": ref}, map[string]any{"type": "null"}}}
	}
	switch t := s["type"].(type) {
	case string:
		s["type"] = []any{t, "null"}
	case []any:
		s["type"] = append(t, "null")
	}
	if words, ok := s["enum"].([]any); ok {
		s["enum"] = append(words, nil)
	}
	return s
}

func describe(s map[string]any, doc string) {
	if doc != "" {
		s["description"] = doc
	}
}

// comments reads the comments of types and fields out of their Go source.
func comments() (map[string]string, error) {
	files, err := typeSources.ReadDir(".")
	if err != nil {
		return nil, err
	}
	out := map[string]string{}
	for _, f := range files {
		source, err := typeSources.ReadFile(f.Name())
		if err != nil {
			return nil, err
		}
		file, err := parser.ParseFile(token.NewFileSet(), f.Name(), source, parser.ParseComments)
		if err != nil {
			return nil, fmt.Errorf("the embedded source of the types: %w", err)
		}
		commentsOf(file, out)
	}
	return out, nil
}

func commentsOf(file *ast.File, out map[string]string) {
	for _, d := range file.Decls {
		decl, ok := d.(*ast.GenDecl)
		if !ok {
			continue
		}
		for _, s := range decl.Specs {
			spec, ok := s.(*ast.TypeSpec)
			if !ok {
				continue
			}
			out[spec.Name.Name] = sentence(decl.Doc, nil)
			if t, ok := spec.Type.(*ast.StructType); ok {
				for _, f := range t.Fields.List {
					for _, name := range f.Names {
						out[spec.Name.Name+"."+name.Name] = sentence(f.Doc, f.Comment)
					}
				}
			}
		}
	}
}

// sentence joins the comment above a field and the one behind it.
func sentence(above, behind *ast.CommentGroup) string {
	return strings.TrimSpace(strings.Join(strings.Fields(above.Text()+" "+behind.Text()), " "))
}
