package main

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// condition decides about an event, whose fields are text by name.
type condition func(event map[string]string) bool

var word = regexp.MustCompile(`'[^']*'|"[^"]*"|>=|<=|!=|[=<>(),]|[^\s=<>!(),]+`)

// conditions parses Falco's conditions: and, or, not, parentheses, comparisons, macros and lists.
type conditions struct {
	macros map[string]condition
	lists  map[string][]string
	words  []string
}

func (p *conditions) parse(text string) (condition, error) {
	p.words = word.FindAllString(text, -1)
	c, err := p.or()
	if err == nil && len(p.words) > 0 {
		err = fmt.Errorf("%q is left over", p.words)
	}
	return c, err
}

func (p *conditions) peek() string {
	if len(p.words) == 0 {
		return ""
	}
	return p.words[0]
}

func (p *conditions) take() string {
	w := p.peek()
	if w != "" {
		p.words = p.words[1:]
	}
	return w
}

func (p *conditions) expect(w string) error {
	if got := p.take(); got != w {
		return fmt.Errorf("%q instead of %q", got, w)
	}
	return nil
}

func (p *conditions) or() (condition, error) {
	return p.chain("or", p.and, func(a, b condition) condition { return func(e map[string]string) bool { return a(e) || b(e) } })
}

func (p *conditions) and() (condition, error) {
	return p.chain("and", p.not, func(a, b condition) condition { return func(e map[string]string) bool { return a(e) && b(e) } })
}

func (p *conditions) chain(operator string, next func() (condition, error), join func(a, b condition) condition) (condition, error) {
	c, err := next()
	for err == nil && p.peek() == operator {
		p.take()
		var right condition
		if right, err = next(); err == nil {
			c = join(c, right)
		}
	}
	return c, err
}

func (p *conditions) not() (condition, error) {
	switch p.peek() {
	case "not":
		p.take()
		c, err := p.not()
		return func(e map[string]string) bool { return !c(e) }, err
	case "(":
		p.take()
		c, err := p.or()
		if err != nil {
			return nil, err
		}
		return c, p.expect(")")
	}
	return p.comparison()
}

func (p *conditions) comparison() (condition, error) {
	field := p.take()
	if !strings.Contains(field, ".") {
		c, ok := p.macros[field]
		if !ok {
			return nil, fmt.Errorf("there is no macro %q", field)
		}
		return c, nil
	}
	operator := p.take()
	if operator == "in" {
		values, err := p.list()
		return func(e map[string]string) bool { return slices.Contains(values, e[field]) }, err
	}
	value := unquote(p.take())
	if value == "" {
		return nil, fmt.Errorf("%s %s is compared with nothing", field, operator)
	}
	compare, err := comparison(operator, value)
	return func(e map[string]string) bool { return compare(e[field]) }, err
}

func comparison(operator, value string) (func(string) bool, error) {
	number := func(f func(a, b int64) bool) (func(string) bool, error) {
		b, err := strconv.ParseInt(value, 10, 64)
		return func(text string) bool {
			a, err := strconv.ParseInt(text, 10, 64)
			return err == nil && f(a, b)
		}, err
	}
	switch operator {
	case "=":
		return func(s string) bool { return s == value }, nil
	case "!=":
		return func(s string) bool { return s != value }, nil
	case "contains":
		return func(s string) bool { return strings.Contains(s, value) }, nil
	case "startswith":
		return func(s string) bool { return strings.HasPrefix(s, value) }, nil
	case "endswith":
		return func(s string) bool { return strings.HasSuffix(s, value) }, nil
	case ">=":
		return number(func(a, b int64) bool { return a >= b })
	case "<=":
		return number(func(a, b int64) bool { return a <= b })
	case ">":
		return number(func(a, b int64) bool { return a > b })
	case "<":
		return number(func(a, b int64) bool { return a < b })
	}
	return nil, fmt.Errorf("the stand-in does not know the comparison %q", operator)
}

func (p *conditions) list() ([]string, error) {
	if err := p.expect("("); err != nil {
		return nil, err
	}
	var out []string
	for {
		w := unquote(p.take())
		if named, ok := p.lists[w]; ok {
			out = append(out, named...)
		} else {
			out = append(out, w)
		}
		switch next := p.take(); next {
		case ",":
		case ")":
			return out, nil
		default:
			return nil, fmt.Errorf("%q in a list", next)
		}
	}
}

func unquote(w string) string {
	if len(w) >= 2 && (w[0] == '\'' || w[0] == '"') {
		return w[1 : len(w)-1]
	}
	return w
}
