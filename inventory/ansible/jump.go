package ansible

import (
	"fmt"
	"regexp"
	"strings"

	"github.com/catamaran-k8s/catamaran/inventory"
)

// jumps finds jump hosts in the arguments that Ansible gives to ssh: -J, ProxyJump, and ProxyCommand where it is
// another ssh -W. What else stands there is warned of.
func (c *importer) jumps(args string, line int, name string) []inventory.JumpHost {
	words, err := split(args)
	if err != nil {
		c.once(line, name, err.Error()+", ignored")
		return nil
	}
	var out []inventory.JumpHost
	var rest []string
	for i := 0; i < len(words); i++ {
		flag, value := words[i], ""
		switch {
		case flag == "-J" || flag == "-o":
			if i++; i == len(words) {
				rest = append(rest, flag)
				continue
			}
			value = words[i]
		case strings.HasPrefix(flag, "-J"), strings.HasPrefix(flag, "-o"):
			flag, value = flag[:2], flag[2:]
		default:
			rest = append(rest, flag)
			continue
		}
		found, ok := jumpList(value), true
		if flag == "-o" {
			found, ok = jumpOption(value)
		}
		if !ok {
			key, _, _ := strings.Cut(value, "=")
			rest = append(rest, key)
			continue
		}
		out = append(out, found...)
	}
	if len(rest) > 0 {
		c.once(line, name, fmt.Sprintf("only jump hosts are carried over, and host keys are always verified; ignored: %s", strings.Join(rest, " ")))
	}
	return out
}

var proxyCommand = regexp.MustCompile(`^ssh\s.*-W\s*("|')?%h:%p`)

func jumpOption(option string) ([]inventory.JumpHost, bool) {
	key, value, _ := strings.Cut(option, "=")
	switch strings.ToLower(strings.TrimSpace(key)) {
	case "proxyjump":
		return jumpList(value), true
	case "proxycommand":
		return jumpCommand(strings.Trim(value, `"'`))
	}
	return nil, false
}

// jumpList reads user@host:port,user@host:port as ssh does; the word none is no jump host.
func jumpList(list string) []inventory.JumpHost {
	var out []inventory.JumpHost
	for _, hop := range strings.Split(list, ",") {
		if hop = strings.TrimPrefix(strings.TrimSpace(hop), "ssh://"); hop == "" || hop == "none" {
			continue
		}
		j := inventory.JumpHost{Address: hop}
		if i := strings.LastIndexByte(hop, '@'); i >= 0 {
			j.User, j.Address = hop[:i], hop[i+1:]
		}
		host, port := hostPort(j.Address)
		j.Address = strings.Trim(host, "[]")
		j.Port = max(number(port), 0)
		out = append(out, j)
	}
	return out
}

// jumpCommand reads ssh -W %h:%p -q -p 2222 -i key user@host.
func jumpCommand(command string) ([]inventory.JumpHost, bool) {
	words, err := split(command)
	if err != nil || !proxyCommand.MatchString(command) {
		return nil, false
	}
	j := inventory.JumpHost{}
	for i := 1; i < len(words); i++ {
		w := words[i]
		next := func() string {
			if i+1 < len(words) {
				i++
				return words[i]
			}
			return ""
		}
		switch {
		case w == "-W" || w == "-o" || w == "-F":
			next()
		case w == "-p":
			j.Port = max(number(next()), 0)
		case w == "-i":
			j.KeyFile = next()
		case w == "-l":
			j.User = next()
		case strings.HasPrefix(w, "-"):
		default:
			hop := jumpList(w)
			if len(hop) != 1 || j.Address != "" {
				return nil, false
			}
			j.Address = hop[0].Address
			if hop[0].User != "" {
				j.User = hop[0].User
			}
			if hop[0].Port != 0 {
				j.Port = hop[0].Port
			}
		}
	}
	return []inventory.JumpHost{j}, j.Address != ""
}
