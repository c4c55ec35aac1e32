package main

import (
	"context"
	"fmt"
	"regexp"
	"strings"
)

// pipeline is a label: filters in order, then outputs, of which the first that matches gets the events.
type pipeline struct {
	filters []filter
	outs    []output
	used    bool
}

type output struct {
	matches func(tag string) bool
	to      *forwarder
}

type filter struct {
	matches func(tag string) bool
	apply   func(event) event
}

func newPipeline(s *section) (*pipeline, error) {
	p := &pipeline{}
	for _, c := range s.sections {
		var err error
		switch {
		case c.name == "filter" && c.get("@type") == "parser":
			err = p.add(c, pathParser)
		case c.name == "filter" && c.get("@type") == "record_transformer":
			err = p.add(c, recordTransformer)
		case c.name == "match" && c.get("@type") == "forward":
			err = p.output(c)
		default:
			err = c.errorf("the stand-in has no %s plugin %q here", c.name, c.get("@type"))
		}
		if err != nil {
			return nil, err
		}
	}
	if n := len(s.sections); n == 0 || s.sections[n-1].name != "match" || s.sections[n-1].arg != "**" {
		return nil, s.errorf("%s has no output for all", s.arg)
	}
	return p, nil
}

func (p *pipeline) add(s *section, kind func(*section) (func(event) event, error)) error {
	apply, err := kind(s)
	if err != nil {
		return err
	}
	matches, err := pattern(s.arg)
	if err != nil {
		return s.errorf("%w", err)
	}
	p.filters = append(p.filters, filter{matches, apply})
	return nil
}

func (p *pipeline) output(s *section) error {
	matches, err := pattern(s.arg)
	if err != nil {
		return s.errorf("%w", err)
	}
	to, err := newForwarder(s)
	p.outs = append(p.outs, output{matches, to})
	return err
}

func (p *pipeline) forwarders() []*forwarder {
	var all []*forwarder
	for _, o := range p.outs {
		all = append(all, o.to)
	}
	return all
}

// emit waits while the buffer is full.
func (p *pipeline) emit(ctx context.Context, tag string, events []event) error {
	for _, o := range p.outs {
		if o.matches(tag) {
			return o.to.append(ctx, tag, p.filter(tag, events))
		}
	}
	return fmt.Errorf("no output takes the tag %s", tag)
}

func (p *pipeline) filter(tag string, events []event) []event {
	for _, f := range p.filters {
		if !f.matches(tag) {
			continue
		}
		for i := range events {
			events[i] = f.apply(events[i])
		}
	}
	return events
}

// pattern makes a tag matcher of Fluentd's patterns: ** is any number of parts, * one part, {a,b} either.
func pattern(text string) (func(string) bool, error) {
	var each []string
	for _, one := range strings.Fields(text) {
		e := regexp.QuoteMeta(one)
		for _, r := range [][2]string{
			{`\*\*`, "\x00"}, {`\*`, `[^.]+`}, {"\x00", `.*`}, {`\{`, `(?:`}, {`\}`, `)`}, {`,`, `|`},
		} {
			e = strings.ReplaceAll(e, r[0], r[1])
		}
		each = append(each, e)
	}
	r, err := regexp.Compile(`^(?:` + strings.Join(each, "|") + `)$`)
	if err != nil {
		return nil, fmt.Errorf("pattern %q: %w", text, err)
	}
	return r.MatchString, nil
}

// pathParser is filter_parser with a regular expression: what its groups find becomes fields.
func pathParser(s *section) (func(event) event, error) {
	if err := s.only("@type", "@id", "key_name", "reserve_data", "reserve_time", "remove_key_name_field", "emit_invalid_record_to_error"); err != nil {
		return nil, err
	}
	p := s.inner("parse")
	if p == nil || p.get("@type") != "regexp" {
		return nil, s.errorf("the stand-in parses by regexp only")
	}
	if s.get("reserve_data") != "true" || s.get("reserve_time") != "true" || s.get("emit_invalid_record_to_error") != "false" {
		return nil, s.errorf("the stand-in always keeps data, time and what does not match")
	}
	text := p.get("expression")
	if len(text) < 2 || text[0] != '/' || text[len(text)-1] != '/' {
		return nil, p.errorf("expression must stand between slashes")
	}
	// Ruby writes \/ where Go writes /
	expression, err := regexp.Compile(strings.ReplaceAll(text[1:len(text)-1], `\/`, `/`))
	if err != nil {
		return nil, p.errorf("%w", err)
	}
	key, remove := s.get("key_name"), s.get("remove_key_name_field") == "true"
	return func(e event) event {
		found := expression.FindStringSubmatch(e.get(key))
		if found == nil {
			return e
		}
		var out []field
		for _, f := range e.record {
			if !remove || f.key != key {
				out = append(out, f)
			}
		}
		for i, name := range expression.SubexpNames() {
			if name != "" {
				out = append(out, field{name, found[i]})
			}
		}
		e.record = out
		return e
	}, nil
}

// recordTransformer adds fixed fields.
func recordTransformer(s *section) (func(event) event, error) {
	if err := s.only("@type", "@id"); err != nil {
		return nil, err
	}
	r := s.inner("record")
	if r == nil {
		return nil, s.errorf("<record> is missing")
	}
	for _, p := range r.params {
		if strings.Contains(p.value, "${") {
			return nil, r.errorf("the stand-in knows no placeholders")
		}
	}
	return func(e event) event {
		for _, p := range r.params {
			e.record = append(e.record, field{p.key, p.value})
		}
		return e
	}, nil
}
