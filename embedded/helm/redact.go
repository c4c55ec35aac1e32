package helm

import (
	"encoding/base64"
	"errors"
	"fmt"
	"sort"
	"strconv"
	"strings"
)

// shortestSecret is the length below which a value is not hidden: "true" or "eth0" give nothing away and would make
// every message unreadable.
const shortestSecret = 6

// Redactor hides what the operator put into values wherever it turns up in text: an API server quotes refused fields,
// a container prints its arguments. What the chart itself says by default is no secret and stays.
type Redactor struct {
	replacer *strings.Replacer
}

// NewRedactor hides the strings of given, as they are and in base64, except those that also stand in public.
func NewRedactor(given map[string]any, public ...map[string]any) *Redactor {
	open := map[string]bool{}
	for _, p := range public {
		leaves(p, "", func(_, value string) { open[value] = true })
	}
	path := map[string]string{}
	leaves(given, "", func(at, value string) {
		if len(value) >= shortestSecret && !open[value] {
			if _, seen := path[value]; !seen {
				path[value] = at
			}
		}
	})
	secrets := make([]string, 0, len(path))
	for s := range path {
		secrets = append(secrets, s)
	}
	// the longest first, so that a secret which contains another one goes as a whole
	sort.Slice(secrets, func(i, j int) bool {
		if len(secrets[i]) != len(secrets[j]) {
			return len(secrets[i]) > len(secrets[j])
		}
		return secrets[i] < secrets[j]
	})
	var pairs []string
	for _, s := range secrets {
		mark := fmt.Sprintf("<value of %s>", path[s])
		pairs = append(pairs, s, mark, base64.StdEncoding.EncodeToString([]byte(s)), mark)
		// quoted by %q or JSON, line by line in a log
		if q := strconv.Quote(s); q != `"`+s+`"` {
			pairs = append(pairs, q[1:len(q)-1], mark)
		}
		for line := range strings.Lines(s) {
			if line = strings.TrimSpace(line); line != s && len(line) >= shortestSecret {
				pairs = append(pairs, line, mark)
			}
		}
	}
	return &Redactor{strings.NewReplacer(pairs...)}
}

// Text returns s with the values hidden.
func (r *Redactor) Text(s string) string {
	if r == nil {
		return s
	}
	return r.replacer.Replace(s)
}

// Error returns err with the values hidden in its text; errors.Is still sees what it wraps, nothing else
// can: unwrapping would show the values again.
func (r *Redactor) Error(err error) error {
	if err == nil || r == nil {
		return err
	}
	text := err.Error()
	if clean := r.Text(text); clean != text {
		return &redacted{clean, err}
	}
	return err
}

type redacted struct {
	text string
	err  error
}

func (e *redacted) Error() string        { return e.text }
func (e *redacted) Is(target error) bool { return errors.Is(e.err, target) }

// leaves calls f for every string below v, with its dotted path.
func leaves(v any, path string, f func(path, value string)) {
	switch v := v.(type) {
	case map[string]any:
		keys := make([]string, 0, len(v))
		for k := range v {
			keys = append(keys, k)
		}
		sort.Strings(keys)
		for _, k := range keys {
			leaves(v[k], strings.TrimPrefix(path+"."+k, "."), f)
		}
	case []any:
		for i, item := range v {
			leaves(item, fmt.Sprintf("%s[%d]", path, i), f)
		}
	case string:
		f(path, v)
	}
}
