package openstack

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"time"

	"github.com/catamaran-k8s/catamaran/test/lab/guests"
)

// server is what the stand-in for the hypervisor writes of each server (standin/lab_compute.py).
type server struct {
	Name      string `json:"name"`
	Hostname  string `json:"hostname"`
	On        bool   `json:"on"`
	Disk      string `json:"disk"`
	Boot      string `json:"boot"`
	MemoryMiB int64  `json:"memoryMiB"`
	Addresses []struct {
		Port    string     `json:"port"`
		Address netip.Addr `json:"address"`
	} `json:"addresses"`
	UserData string `json:"userData"` // base64, as nova keeps it
	Key      string `json:"key"`
}

// machine is the server as a guest. floating are addresses by port. It returns an error for a server that no host can be made of.
func (x server) machine(id string, servers netip.Prefix, floating map[string][]netip.Addr) (guests.Machine, error) {
	m := guests.Machine{ID: id, Name: x.Name, Hostname: x.Hostname, On: x.On, Disk: x.Disk, Boot: x.Boot, Memory: x.MemoryMiB << 20}
	for _, a := range x.Addresses {
		if !servers.Contains(a.Address) {
			continue
		}
		if !m.Address.IsValid() {
			m.Address = a.Address
		} else {
			m.Further = append(m.Further, a.Address)
		}
		m.Further = append(m.Further, floating[a.Port]...)
	}
	if !m.Address.IsValid() {
		return m, fmt.Errorf("server %s (%s) has no address in %s, which is the lab's network for servers: it gets no host", x.Name, id, servers)
	}
	if x.Key != "" {
		m.AuthorizedKeys = strings.Split(strings.TrimSpace(x.Key), "\n")
	}
	var err error
	if m.UserData, err = base64.StdEncoding.DecodeString(x.UserData); err != nil {
		return m, fmt.Errorf("server %s (%s): its user data: %w", x.Name, id, err)
	}
	return m, nil
}

// follow makes a host of each server until ctx ends.
func (s *supervisor) follow(ctx context.Context) error {
	complained := map[string]bool{}
	var told []guests.Status
	for {
		machines, complaints, err := s.servers()
		if err != nil {
			return err
		}
		for _, c := range complaints {
			if !complained[c.Error()] {
				complained[c.Error()] = true
				s.o.Log(c.Error())
			}
		}
		s.guests.Want(machines)
		status, err := s.guests.Status()
		if err != nil {
			return err
		}
		if !reflect.DeepEqual(status, told) {
			told = status
			s.mu.Lock()
			s.state.Guests = status
			s.mu.Unlock()
			if err := errors.Join(s.save(), s.showConsoles(status)); err != nil {
				return err
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(2 * poll):
		}
	}
}

// servers reads what there is now; complaints are about servers that can not become hosts.
func (s *supervisor) servers() ([]guests.Machine, []error, error) {
	paths, err := filepath.Glob(s.o.path("var", "servers", "*.json"))
	if err != nil {
		return nil, nil, err
	}
	floating := map[string][]netip.Addr{}
	if _, err := readJSON(s.o.path("var", "floating.json"), &floating); err != nil {
		return nil, nil, err
	}
	var out []guests.Machine
	var complaints []error
	for _, path := range paths {
		data, err := os.ReadFile(path)
		if errors.Is(err, fs.ErrNotExist) {
			continue // deleted just now
		}
		var x server
		if err == nil {
			err = json.Unmarshal(data, &x)
		}
		if err != nil {
			return nil, nil, fmt.Errorf("%s: %w", path, err)
		}
		m, err := x.machine(strings.TrimSuffix(filepath.Base(path), ".json"), s.o.Servers(), floating)
		if err != nil {
			complaints = append(complaints, err)
			continue
		}
		out = append(out, m)
	}
	return out, complaints, nil
}

// showConsoles puts the hosts' consoles where nova looks for those of its servers.
func (s *supervisor) showConsoles(status []guests.Status) error {
	for _, g := range status {
		path, ok := s.guests.Console(g.ID)
		if !ok {
			continue
		}
		link := s.o.path("var", "consoles", g.ID)
		if have, err := os.Readlink(link); err == nil && have == path {
			continue
		}
		if err := os.Remove(link); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		if err := os.Symlink(path, link); err != nil {
			return err
		}
	}
	return nil
}
