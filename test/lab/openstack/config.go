package openstack

import (
	"bytes"
	"crypto/rand"
	"embed"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"text/template"
)

//go:embed templates
var templates embed.FS

//go:embed standin
var standins embed.FS

// secrets are a cloud's passwords. They live with its database, which has most of them in some form.
type secrets struct {
	Admin    string            `json:"admin"`
	Service  string            `json:"service"`
	Database string            `json:"database"`
	Messages string            `json:"messages"`
	Users    map[string]string `json:"users"` // by name
}

// freshSecrets makes new ones.
func freshSecrets() (secrets, error) {
	x := secrets{Users: map[string]string{}}
	var err error
	next := func() string {
		b := make([]byte, 16)
		if _, rerr := rand.Read(b); rerr != nil {
			err = rerr
		}
		return hex.EncodeToString(b)
	}
	x.Admin, x.Service, x.Database, x.Messages = next(), next(), next(), next()
	for _, p := range projectNames {
		x.Users[p] = next()
	}
	return x, err
}

// settings are what templates use.
type settings struct {
	o         Options
	Secrets   secrets
	Extracted string
	Name      string // the service's, see As
}

// As is the same for one service.
func (s settings) As(name string) settings {
	s.Name = name
	return s
}

// Etc, Var and Log are folders.
func (s settings) Etc() string { return s.o.path("etc") }

// Var is where daemons keep what they work on.
func (s settings) Var() string { return s.o.path("var") }

// Log is where they tell what they do.
func (s settings) Log() string { return s.o.path("log") }

// Port is a service's.
func (s settings) Port(name string) int { return s.o.port(name) }

// Local is an API as daemons reach it.
func (s settings) Local(name string) string { return s.o.local(name) }

// Public is an API as users reach it.
func (s settings) Public(name string) string { return s.o.public(name) }

// Database is the URL of one.
func (s settings) Database(name string) string {
	return fmt.Sprintf("mysql+pymysql://openstack:%s@127.0.0.1:%d/%s?charset=utf8", s.Secrets.Database, s.o.port("database"), name)
}

// Messages is the URL of the message broker.
func (s settings) Messages() string {
	return fmt.Sprintf("rabbit://openstack:%s@127.0.0.1:%d/", s.Secrets.Messages, s.o.port("messages"))
}

// files are the configurations by their paths below etc.
var files = map[string]string{
	"keystone/keystone.conf": "keystone.conf", "placement/placement.conf": "placement.conf", "glance.conf": "glance.conf",
	"neutron.conf": "neutron.conf", "ml2.conf": "ml2.conf", "nova.conf": "nova.conf", "cinder.conf": "cinder.conf", "rabbit.config": "rabbit.config",
}

// configure writes all configurations, and the stand-ins.
func (s settings) configure() error {
	t, err := template.New("").ParseFS(templates, "templates/*")
	if err != nil {
		return err
	}
	for path, name := range files {
		var b bytes.Buffer
		if err := t.ExecuteTemplate(&b, name, s); err != nil {
			return err
		}
		if err := writeFile(s.o.path("etc", path), b.Bytes()); err != nil {
			return err
		}
	}
	for _, host := range s.o.computeHosts() {
		if err := writeFile(s.o.path("etc", host+".conf"), []byte("[DEFAULT]\nhost = "+host+"\n")); err != nil {
			return err
		}
	}
	if err := writeFile(s.o.path("etc", "rabbit-plugins"), []byte("[].\n")); err != nil {
		return err
	}
	names, err := fs.ReadDir(standins, "standin")
	if err != nil {
		return err
	}
	for _, n := range names {
		data, err := standins.ReadFile("standin/" + n.Name())
		if err != nil {
			return err
		}
		if err := writeFile(s.o.path("standin", n.Name()), data); err != nil {
			return err
		}
	}
	return nil
}

// writeFile writes a private file that is either the old one or the new one, whenever it is read.
func writeFile(path string, data []byte) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*") // of mode 0600
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	err = errors.Join(err, f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		_ = os.Remove(f.Name())
	}
	return err
}

func writeJSON(path string, v any) error {
	data, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return err
	}
	return writeFile(path, append(data, '\n'))
}

// readJSON reads a file; missing says that there is none.
func readJSON(path string, v any) (missing bool, err error) {
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return true, nil
	}
	if err != nil {
		return false, err
	}
	if err := json.Unmarshal(data, v); err != nil {
		return false, fmt.Errorf("%s: %w", path, err)
	}
	return false, nil
}
