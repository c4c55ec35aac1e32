package ansible

import (
	"errors"
	"regexp"
	"strings"
)

var errQuote = errors.New("a quote does not end")

var section = regexp.MustCompile(`^\[([^\[\]:\s]+)(?::(children|vars|hosts))?\]\s*(?:[#;].*)?$`)

// parseINI reads the INI form: [group], [group:children], [group:vars], host lines with variables.
func parseINI(text, path string) (*file, error) {
	f := newFile(path)
	name, kind := "ungrouped", ""
	for i, line := range strings.Split(text, "\n") {
		line, number := strings.TrimSpace(line), i+1
		if line == "" || line[0] == '#' || line[0] == ';' {
			continue
		}
		if line[0] == '[' {
			m := section.FindStringSubmatch(line)
			if m == nil {
				return nil, f.fail(number, "expected a section such as [kube_node] or [k8s_cluster:children]")
			}
			name, kind = m[1], m[2]
			f.group(name)
			if len(f.groups) > maxGroups {
				return nil, f.fail(number, "there are more than %d groups", maxGroups)
			}
			continue
		}
		var err error
		switch kind {
		case "vars":
			err = f.iniVariable(name, line, number)
		case "children":
			child, _, _ := strings.Cut(line, " ")
			f.group(child)
			if len(f.groups) > maxGroups {
				return nil, f.fail(number, "there are more than %d groups", maxGroups)
			}
			f.group(name).children = appendNew(f.group(name).children, child)
		default:
			err = f.iniHost(name, line, number)
		}
		if err != nil {
			return nil, err
		}
	}
	return f, nil
}

func (f *file) iniVariable(group, line string, number int) error {
	key, value, ok := strings.Cut(line, "=")
	if key = strings.TrimSpace(key); !ok || key == "" || strings.ContainsAny(key, " \t") {
		return f.fail(number, "expected variable=value in [%s:vars]", group)
	}
	f.group(group).vars[key] = variable{unquote(strings.TrimSpace(value)), number}
	return nil
}

func (f *file) iniHost(group, line string, number int) error {
	words, err := split(line)
	if err != nil {
		return f.fail(number, "%v", err)
	}
	if len(words) == 0 {
		return nil
	}
	pattern, port := hostPort(words[0])
	names, err := expand(pattern)
	if err != nil {
		return f.fail(number, "%v", err)
	}
	vars := map[string]variable{}
	if port != "" {
		vars["ansible_port"] = variable{port, number}
	}
	for _, w := range words[1:] {
		key, value, ok := strings.Cut(w, "=")
		if !ok || key == "" {
			return f.fail(number, "expected variable=value after the host's name")
		}
		vars[key] = variable{value, number}
	}
	for _, n := range names {
		if err := f.addHost(n, number); err != nil {
			return err
		}
		for k, v := range vars {
			f.hostVars[n][k] = v
		}
	}
	g := f.group(group)
	have := map[string]bool{}
	for _, h := range g.hosts {
		have[h] = true
	}
	for _, n := range names {
		if !have[n] {
			g.hosts, have[n] = append(g.hosts, n), true
		}
	}
	return nil
}

// hostPort cuts a port off a host's name; the colons of a range and of an IPv6 address are none.
func hostPort(word string) (host, port string) {
	i := strings.LastIndexByte(word, ':')
	if i < 0 || number(word[i+1:]) < 0 || strings.LastIndexByte(word, ']') < strings.LastIndexByte(word, '[') || strings.LastIndexByte(word, ']') > i {
		return word, ""
	}
	if h := word[:i]; !strings.ContainsAny(h, ":") || strings.HasSuffix(h, "]") {
		return h, word[i+1:]
	}
	return word, ""
}

// split cuts a line into words as a shell does: quotes hold blanks, # after a blank begins a comment.
func split(line string) ([]string, error) {
	var words []string
	var word strings.Builder
	quote, inWord := byte(0), false
	for i := 0; i < len(line); i++ {
		c := line[i]
		switch {
		case quote != 0 && c == quote:
			quote = 0
		case c == '\\' && quote != '\'' && i+1 < len(line):
			i++
			word.WriteByte(line[i])
			inWord = true
		case quote != 0:
			word.WriteByte(c)
		case c == '"' || c == '\'':
			quote, inWord = c, true
		case c == ' ' || c == '\t':
			if inWord {
				words = append(words, word.String())
				word.Reset()
				inWord = false
			}
		case c == '#' && !inWord:
			return words, nil
		default:
			word.WriteByte(c)
			inWord = true
		}
	}
	if quote != 0 {
		return nil, errQuote
	}
	if inWord {
		words = append(words, word.String())
	}
	return words, nil
}

// unquote takes the quotes off a value that stands alone behind its =.
func unquote(s string) string {
	if len(s) >= 2 && (s[0] == '"' || s[0] == '\'') && s[len(s)-1] == s[0] {
		return s[1 : len(s)-1]
	}
	return s
}
