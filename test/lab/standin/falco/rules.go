package main

import (
	"encoding/json"
	"fmt"
	"os"
	"regexp"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
)

// rule is one of the rules file.
type rule struct {
	Rule, Macro, List       string
	Desc, Condition, Output string
	Priority, Source        string
	Items, Tags             []string

	matches condition
}

// loadRules reads a rules file and parses its conditions.
func loadRules(path string) ([]rule, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var items []rule
	d := yaml.NewDecoder(strings.NewReader(string(text)))
	d.KnownFields(true)
	if err := d.Decode(&items); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	p := &conditions{macros: map[string]condition{}, lists: map[string][]string{}}
	var rules []rule
	for _, item := range items {
		var err error
		switch {
		case item.List != "":
			p.lists[item.List] = item.Items
		case item.Macro != "":
			p.macros[item.Macro], err = p.parse(item.Condition)
		case item.Rule != "":
			item.matches, err = p.parse(item.Condition)
			rules = append(rules, item)
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %s%s: %w", path, item.Macro, item.Rule, err)
		}
	}
	return rules, nil
}

var placeholder = regexp.MustCompile(`%([a-z][a-z0-9_.]*[a-z0-9])`)

// alert is a line of JSON as Falco writes it with json_output.
func (r rule) alert(event map[string]string, hostname string, at time.Time) ([]byte, error) {
	fields := map[string]any{"evt.time": at.UnixNano()}
	value := func(name string) string {
		if v, ok := event[name]; ok && v != "" {
			return v
		}
		return "<NA>"
	}
	output := placeholder.ReplaceAllStringFunc(strings.Join(strings.Fields(r.Output), " "), func(p string) string {
		fields[p[1:]] = value(p[1:])
		return value(p[1:])
	})
	// Falco writes Critical for CRITICAL
	priority := strings.ToUpper(r.Priority[:1]) + strings.ToLower(r.Priority[1:])
	stamp := at.UTC().Format("2006-01-02T15:04:05.000000000Z")
	return json.Marshal(map[string]any{
		"hostname": hostname, "output": stamp + ": " + priority + " " + output, "output_fields": fields, "priority": priority,
		"rule": r.Rule, "source": "syscall", "tags": r.Tags, "time": stamp,
	})
}
