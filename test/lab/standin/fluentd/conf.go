package main

import (
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// section is <name arg> of fluent.conf with its parameters and the sections in it.
type section struct {
	name, arg string
	line      int
	params    []param
	sections  []*section
}

type param struct {
	key, value string
	line       int
}

var (
	opening = regexp.MustCompile(`^<([a-z_]+)(?:\s+([^>]+))?>$`)
	closing = regexp.MustCompile(`^</([a-z_]+)>$`)
	ruby    = regexp.MustCompile(`#\{ENV\['([A-Za-z_][A-Za-z0-9_]*)'\]\}`)
)

// parse reads a configuration. Embedded Ruby is known in one form only: "#{ENV['NAME']}".
func parse(text string, env func(string) string) (*section, error) {
	root := &section{}
	stack := []*section{root}
	for n, line := range strings.Split(text, "\n") {
		line = strings.TrimSpace(line)
		at := stack[len(stack)-1]
		switch {
		case line == "", strings.HasPrefix(line, "#"):
		case closing.MatchString(line):
			if name := closing.FindStringSubmatch(line)[1]; len(stack) == 1 || at.name != name {
				return nil, fmt.Errorf("line %d: </%s> closes nothing", n+1, name)
			}
			stack = stack[:len(stack)-1]
		case opening.MatchString(line):
			m := opening.FindStringSubmatch(line)
			s := &section{name: m[1], arg: strings.TrimSpace(m[2]), line: n + 1}
			at.sections = append(at.sections, s)
			stack = append(stack, s)
		default:
			key, value, _ := strings.Cut(line, " ")
			value = strings.TrimSpace(value)
			if len(value) >= 2 && value[0] == '"' && value[len(value)-1] == '"' {
				value = ruby.ReplaceAllStringFunc(value[1:len(value)-1], func(m string) string { return env(ruby.FindStringSubmatch(m)[1]) })
				if strings.Contains(value, "#{") {
					return nil, fmt.Errorf("line %d: the stand-in knows no Ruby but #{ENV['NAME']}", n+1)
				}
			}
			at.params = append(at.params, param{key, value, n + 1})
		}
	}
	if len(stack) > 1 {
		return nil, fmt.Errorf("line %d: <%s> is not closed", stack[len(stack)-1].line, stack[len(stack)-1].name)
	}
	return root, nil
}

func (s *section) errorf(format string, args ...any) error {
	return fmt.Errorf("line %d, <%s>: %w", s.line, s.name, fmt.Errorf(format, args...))
}

func (s *section) get(key string) string {
	for _, p := range s.params {
		if p.key == key {
			return p.value
		}
	}
	return ""
}

func (s *section) or(key, otherwise string) string {
	if v := s.get(key); v != "" {
		return v
	}
	return otherwise
}

// only refuses parameters that are not listed: a configuration that the stand-in would not follow must not look followed.
func (s *section) only(keys ...string) error {
	for _, p := range s.params {
		if !slices.Contains(keys, p.key) {
			return s.errorf("line %d: the stand-in does not know %s", p.line, p.key)
		}
	}
	return nil
}

func (s *section) must(keys ...string) error {
	for _, k := range keys {
		if s.get(k) == "" {
			return s.errorf("%s is missing", k)
		}
	}
	return nil
}

func (s *section) inner(name string) *section {
	for _, c := range s.sections {
		if c.name == name {
			return c
		}
	}
	return nil
}

func (s *section) duration(key string, otherwise time.Duration) (time.Duration, error) {
	v := s.get(key)
	if v == "" {
		return otherwise, nil
	}
	if n, err := strconv.Atoi(v); err == nil {
		return time.Duration(n) * time.Second, nil
	}
	d, err := time.ParseDuration(v)
	if err != nil {
		return 0, s.errorf("%s: %q is no time", key, v)
	}
	return d, nil
}

// size is a number of bytes with k, m or g (of 1024).
func (s *section) size(key string, otherwise int64) (int64, error) {
	v := strings.ToLower(s.get(key))
	if v == "" {
		return otherwise, nil
	}
	factor := int64(1)
	if i := strings.IndexByte("kmg", v[len(v)-1]); i >= 0 {
		factor, v = 1<<(10*(i+1)), v[:len(v)-1]
	}
	n, err := strconv.ParseInt(v, 10, 64)
	if err != nil {
		return 0, s.errorf("%s: %q is no size", key, s.get(key))
	}
	return n * factor, nil
}

func (s *section) number(key string, otherwise int) (int, error) {
	v := s.get(key)
	if v == "" {
		return otherwise, nil
	}
	n, err := strconv.Atoi(v)
	if err != nil {
		return 0, s.errorf("%s: %q is no number", key, v)
	}
	return n, nil
}

// list is a JSON array or comma-separated.
func (s *section) list(key string) ([]string, error) {
	v := s.get(key)
	if !strings.HasPrefix(v, "[") {
		var out []string
		for _, e := range strings.Split(v, ",") {
			if e = strings.TrimSpace(e); e != "" {
				out = append(out, e)
			}
		}
		return out, nil
	}
	var out []string
	if err := json.Unmarshal([]byte(v), &out); err != nil {
		return nil, s.errorf("%s: %w", key, err)
	}
	return out, nil
}
