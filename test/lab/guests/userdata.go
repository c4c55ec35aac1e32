package guests

import (
	"bytes"
	"compress/gzip"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/catamaran-k8s/catamaran/test/lab/hosts"
)

// This file is a stand-in for cloud-init: it does the part of a #cloud-config that makes a machine one that SSH reaches, and says
// which other parts it leaves undone.

// defaultUser is the one of Debian's cloud images, which gets the keys of key pairs.
const defaultUser = "debian"

const everything = "ALL=(ALL) NOPASSWD:ALL"

// config are the keys of a #cloud-config that are understood.
type config struct {
	Hostname          string            `yaml:"hostname"`
	FQDN              string            `yaml:"fqdn"`
	Users             []yaml.Node       `yaml:"users"`
	SSHAuthorizedKeys []string          `yaml:"ssh_authorized_keys"`
	SSHKeys           map[string]string `yaml:"ssh_keys"`
	WriteFiles        []writeFile       `yaml:"write_files"`
	RunCmd            []yaml.Node       `yaml:"runcmd"`
	Rest              map[string]any    `yaml:",inline"`
}

type user struct {
	Name              string         `yaml:"name"`
	Shell             string         `yaml:"shell"`
	Groups            list           `yaml:"groups"`
	Sudo              list           `yaml:"sudo"`
	SSHAuthorizedKeys []string       `yaml:"ssh_authorized_keys"`
	Rest              map[string]any `yaml:",inline"`
}

type writeFile struct {
	Path        string         `yaml:"path"`
	Content     string         `yaml:"content"`
	Encoding    string         `yaml:"encoding"`
	Owner       string         `yaml:"owner"`
	Permissions string         `yaml:"permissions"`
	Rest        map[string]any `yaml:",inline"`
}

// list is one string, or several; in one string commas part them where split says so.
type list []string

// UnmarshalYAML reads either form.
func (l *list) UnmarshalYAML(n *yaml.Node) error {
	if n.Kind == yaml.SequenceNode {
		return n.Decode((*[]string)(l))
	}
	var one string
	if n.Tag == "!!bool" || n.Tag == "!!null" { // sudo: false
		return nil
	}
	if err := n.Decode(&one); err != nil {
		return err
	}
	*l = list{one}
	return nil
}

func (l list) split() []string {
	var out []string
	for _, s := range l {
		for _, part := range strings.Split(s, ",") {
			if part = strings.TrimSpace(part); part != "" {
				out = append(out, part)
			}
		}
	}
	return out
}

// harmless keys change nothing on a host that has no packages to fetch and deletes no keys.
var harmless = map[string]bool{
	"ssh_deletekeys": true, "disable_root": true, "ssh_pwauth": true, "preserve_hostname": true, "manage_etc_hosts": true,
	"package_update": true, "package_upgrade": true, "prefer_fqdn_over_hostname": true, "ssh_genkeytypes": true, "growpart": true, "resize_rootfs": true,
	"lock_passwd": true, "gecos": true, "homedir": true, "defer": true,
}

// seeded is a seed with the name of the machine.
type seeded struct {
	hosts.Seed
	hostname string
}

// parse makes a host's seed of what a cloud gives the machine. Warnings say what was not done.
func parse(m *Machine) (seeded, []string, error) {
	out := seeded{hostname: m.Hostname}
	if out.hostname == "" {
		out.hostname = m.Name
	}
	data, err := unpack(m.UserData)
	if err != nil {
		return out, nil, fmt.Errorf("user data: %w", err)
	}
	var c config
	var warnings []string
	switch first, _, _ := strings.Cut(string(data), "\n"); {
	case len(bytes.TrimSpace(data)) == 0:
	case strings.TrimSpace(first) == "#cloud-config":
		if err := yaml.Unmarshal(data, &c); err != nil {
			return out, nil, fmt.Errorf("user data: %w", err)
		}
	case strings.HasPrefix(first, "#!"):
		out.Commands = string(data)
	default:
		warnings = append(warnings, fmt.Sprintf("user data of an unknown kind is left alone: it begins with %q", first[:min(len(first), 40)]))
	}
	warnings = append(warnings, left("", c.Rest)...)
	if c.Hostname != "" {
		out.hostname = c.Hostname
	} else if c.FQDN != "" {
		out.hostname, _, _ = strings.Cut(c.FQDN, ".")
	}
	out.hostname = strings.ToLower(out.hostname)
	for name, key := range c.SSHKeys {
		switch name {
		case "ed25519_private":
			out.HostKey = key
		case "ed25519_public": // follows from the private one
		default:
			warnings = append(warnings, "ssh_keys."+name+" is left undone: hosts have an ed25519 key")
		}
	}
	more, err := c.users(&out, append(slices.Clone(m.AuthorizedKeys), c.SSHAuthorizedKeys...))
	warnings = append(warnings, more...)
	if err != nil {
		return out, nil, err
	}
	for _, f := range c.WriteFiles {
		warnings = append(warnings, left("write_files.", f.Rest)...)
		file, err := f.seed()
		if err != nil {
			return out, nil, fmt.Errorf("user data: write_files: %s: %w", f.Path, err)
		}
		out.Files = append(out.Files, file)
	}
	if len(c.RunCmd) > 0 {
		if out.Commands, err = script(c.RunCmd); err != nil {
			return out, nil, fmt.Errorf("user data: runcmd: %w", err)
		}
	}
	slices.Sort(warnings)
	return out, warnings, nil
}

func left(prefix string, rest map[string]any) []string {
	var out []string
	for _, k := range slices.Sorted(maps.Keys(rest)) {
		if !harmless[k] {
			out = append(out, "user data: "+prefix+k+" is left undone: the lab's stand-in for cloud-init does not know it")
		}
	}
	return out
}

// unpack undoes the compression that user data may have.
func unpack(data []byte) ([]byte, error) {
	if !bytes.HasPrefix(data, []byte{0x1f, 0x8b}) {
		return data, nil
	}
	r, err := gzip.NewReader(bytes.NewReader(data))
	if err != nil {
		return nil, err
	}
	const limit = 1 << 20
	return io.ReadAll(io.LimitReader(r, limit))
}

// users adds the login users. keys are the default user's; without one they are the first user's that was named, as cloud-init does it.
func (c config) users(out *seeded, keys []string) ([]string, error) {
	var warnings []string
	standard := len(c.Users) == 0
	for _, n := range c.Users {
		var name string
		if n.Kind == yaml.ScalarNode {
			if err := n.Decode(&name); err != nil {
				return nil, err
			}
			if name == "default" {
				standard = true
			} else {
				out.Users = append(out.Users, hosts.SeedUser{Name: name})
			}
			continue
		}
		var u user
		if err := n.Decode(&u); err != nil {
			return nil, fmt.Errorf("user data: users: %w", err)
		}
		if u.Name == "" {
			return nil, errors.New("user data: users: one has no name")
		}
		warnings = append(warnings, left("users.", u.Rest)...)
		out.Users = append(out.Users, hosts.SeedUser{Name: u.Name, Shell: u.Shell, Groups: u.Groups.split(), Sudo: u.Sudo, AuthorizedKeys: u.SSHAuthorizedKeys})
	}
	switch {
	case standard:
		out.Users = append(out.Users, hosts.SeedUser{Name: defaultUser, Sudo: []string{everything}, AuthorizedKeys: keys})
	case len(keys) > 0 && len(out.Users) > 0:
		out.Users[0].AuthorizedKeys = append(out.Users[0].AuthorizedKeys, keys...)
	}
	return warnings, nil
}

func (f writeFile) seed() (hosts.SeedFile, error) {
	out := hosts.SeedFile{Path: f.Path, Owner: f.Owner, Mode: 0o644, Content: []byte(f.Content)}
	if !strings.HasPrefix(f.Path, "/") {
		return out, errors.New("the path is not absolute")
	}
	if f.Permissions != "" {
		mode, err := strconv.ParseUint(strings.TrimPrefix(f.Permissions, "0o"), 8, 12)
		if err != nil {
			return out, fmt.Errorf("permissions: %w", err)
		}
		out.Mode = os.FileMode(mode)
	}
	var err error
	switch f.Encoding {
	case "", "text/plain":
	case "b64", "base64":
		out.Content, err = base64.StdEncoding.DecodeString(f.Content)
	case "gz+b64", "gz+base64", "gzip+b64", "gzip+base64":
		if out.Content, err = base64.StdEncoding.DecodeString(f.Content); err == nil {
			out.Content, err = unpack(out.Content)
		}
	default:
		err = fmt.Errorf("encoding %q is not known", f.Encoding)
	}
	return out, err
}

// script makes a shell script of runcmd: strings are for the shell, lists are programs with arguments.
func script(commands []yaml.Node) (string, error) {
	var b strings.Builder
	b.WriteString("#!/bin/sh\n")
	for _, n := range commands {
		if n.Kind != yaml.SequenceNode {
			b.WriteString(n.Value + "\n")
			continue
		}
		var words []string
		if err := n.Decode(&words); err != nil {
			return "", err
		}
		for i, w := range words {
			words[i] = "'" + strings.ReplaceAll(w, "'", `'\''`) + "'"
		}
		b.WriteString(strings.Join(words, " ") + "\n")
	}
	return b.String(), nil
}
