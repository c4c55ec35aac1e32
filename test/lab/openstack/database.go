package openstack

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/catamaran-k8s/catamaran/test/lab/hosts/rootfs"
)

// A fresh database takes most of a start: hundreds of migrations. So it is kept in the cache as it is after them and after the
// identities were made, before any daemon has seen it, with the secrets that fit it. Its name says what it was made from.

//go:embed database.go
var databaseSource string

//go:embed identity.go
var identitySource string

var databases = []string{"keystone", "glance", "placement", "neutron", "nova", "nova_api", "nova_cell0", "cinder"}

// kept are the parts of a cloud's folder that the cache has.
var kept = []string{"db", "etc/keystone/fernet", "etc/keystone/credential", "secrets.json", "identity.json"}

// saved is the folder of the cache for this cloud's fresh state.
func (s *supervisor) saved() (string, error) {
	cache, err := rootfs.Cache()
	if err != nil {
		return "", err
	}
	parts := []string{databaseSource, identitySource, fmt.Sprint(versions(packages)), fmt.Sprint(s.o.Base, s.o.Subnet)}
	for _, name := range []string{"nova.conf", "parts.conf", "keystone.conf"} {
		data, err := templates.ReadFile("templates/" + name)
		if err != nil {
			return "", err
		}
		parts = append(parts, string(data))
	}
	return filepath.Join(cache, "openstack", "state-"+digest(parts...)), nil
}

// copyState copies the kept parts from one folder to the other, which has none of them.
func copyState(ctx context.Context, from, to string) error {
	for _, part := range kept {
		target := filepath.Join(to, part)
		if err := os.MkdirAll(filepath.Dir(target), 0o700); err != nil {
			return err
		}
		if out, err := exec.CommandContext(ctx, "cp", "--archive", "--sparse=always", filepath.Join(from, part), target).CombinedOutput(); err != nil {
			return fmt.Errorf("cp: %w: %s", err, tail(out))
		}
	}
	return nil
}

// restore takes the fresh state from the cache, and says whether there was one.
func (s *supervisor) restore(ctx context.Context) (bool, error) {
	dir, err := s.saved()
	if err != nil {
		return false, err
	}
	if _, err := os.Stat(dir); err != nil {
		return false, nil //nolint:nilerr // then one is made
	}
	s.o.Log("taking the database from the cache")
	return true, copyState(ctx, dir, s.o.Dir)
}

// keep puts the fresh state into the cache. The database must be down.
func (s *supervisor) keep(ctx context.Context) error {
	dir, err := s.saved()
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(dir), 0o700); err != nil {
		return err
	}
	fresh, err := os.MkdirTemp(filepath.Dir(dir), ".state-*")
	if err != nil {
		return err
	}
	if err := copyState(ctx, s.o.Dir, fresh); err != nil {
		return errors.Join(err, os.RemoveAll(fresh))
	}
	if err := os.Rename(fresh, dir); err != nil {
		if rerr := os.RemoveAll(fresh); rerr != nil {
			return rerr
		}
		if _, serr := os.Stat(dir); serr != nil {
			return err
		} // another cloud was faster
	}
	return nil
}

// startDatabase starts the database server on the cloud's data.
func (s *supervisor) startDatabase(ctx context.Context) error {
	d, err := s.start("mariadb", nil, "/usr/sbin/mariadbd", "--no-defaults", "--user=root", "--datadir="+s.o.path("db"),
		"--socket="+s.databaseSocket(), "--pid-file="+s.o.path("run", "mariadb.pid"),
		"--bind-address=127.0.0.1", fmt.Sprintf("--port=%d", s.o.port("database")),
		// nothing here is worth a sync: what a power cut leaves of a lab is thrown away
		"--skip-log-bin", "--innodb-flush-log-at-trx-commit=0", "--innodb-doublewrite=0", "--innodb-flush-method=nosync",
		"--innodb-buffer-pool-size=256M", "--innodb-log-file-size=32M", "--max-connections=400", "--skip-name-resolve", "--performance-schema=OFF",
		"--character-set-server=utf8mb3", "--collation-server=utf8mb3_general_ci")
	if err != nil {
		return err
	}
	s.database = d
	return until(ctx, "the database", d, s.listens("database"))
}

func (s *supervisor) databaseSocket() string { return s.o.path("run", "db.sock") }

// sql runs statements as root, who comes by the socket alone.
func (s *supervisor) sql(ctx context.Context, statements string) error {
	cmd := exec.CommandContext(ctx, "mariadb", "--no-defaults", "--user=root", "--socket="+s.databaseSocket())
	cmd.Stdin = strings.NewReader(statements)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("mariadb: %w: %s", err, tail(out))
	}
	return nil
}

// ensureDatabase brings the database up with everything in it that comes before the daemons.
func (s *supervisor) ensureDatabase(ctx context.Context) error {
	missing, err := readJSON(s.o.path("identity.json"), &s.identity)
	if err != nil {
		return err
	}
	if missing {
		for _, part := range kept { // of a start that was cut off
			if err := os.RemoveAll(s.o.path(part)); err != nil {
				return err
			}
		}
		found, err := s.restore(ctx)
		if err != nil {
			return err
		}
		if !found {
			return s.makeDatabase(ctx)
		}
		if _, err := readJSON(s.o.path("identity.json"), &s.identity); err != nil {
			return err
		}
	}
	if _, err := readJSON(s.o.path("secrets.json"), &s.settings.Secrets); err != nil {
		return err
	}
	if err := s.settings.configure(); err != nil {
		return err
	}
	return s.startDatabase(ctx)
}

// makeDatabase makes a fresh one, keeps it in the cache, and leaves it running.
func (s *supervisor) makeDatabase(ctx context.Context) error {
	s.o.Log("making a fresh database; later starts find it in the cache")
	var err error
	if s.settings.Secrets, err = freshSecrets(); err != nil {
		return err
	}
	if err := writeJSON(s.o.path("secrets.json"), s.settings.Secrets); err != nil {
		return err
	}
	if err := s.settings.configure(); err != nil {
		return err
	}
	if err := s.once(ctx, "mariadb-install", nil, "mariadb-install-db", "--no-defaults", "--user=root", "--datadir="+s.o.path("db"),
		"--auth-root-authentication-method=normal", "--skip-test-db"); err != nil {
		return err
	}
	if err := s.startDatabase(ctx); err != nil {
		return err
	}
	var statements strings.Builder
	for _, name := range databases {
		fmt.Fprintf(&statements, "CREATE DATABASE %s CHARACTER SET utf8mb3;\n", name)
	}
	fmt.Fprintf(&statements, "CREATE USER openstack@'127.0.0.1' IDENTIFIED BY '%s'; GRANT ALL ON *.* TO openstack@'127.0.0.1';\n", s.settings.Secrets.Database)
	statements.WriteString("DROP USER IF EXISTS root@'127.0.0.1'; DROP USER IF EXISTS root@'::1'; DROP USER IF EXISTS ''@'localhost';\n")
	if err := s.sql(ctx, statements.String()); err != nil {
		return err
	}
	if err := s.migrate(ctx); err != nil {
		return err
	}
	s.o.Log("the databases are migrated; making projects and users")
	if err := s.startKeystone(ctx); err != nil {
		return err
	}
	if s.identity, err = s.makeIdentity(ctx); err != nil {
		return err
	}
	const orderly = 30 * time.Second
	stop(orderly, s.keystone)
	stop(orderly, s.database)
	if err := writeJSON(s.o.path("identity.json"), s.identity); err != nil {
		return err
	}
	if err := s.keep(ctx); err != nil {
		return err
	}
	return s.startDatabase(ctx)
}

// migrate makes all tables, two programs at a time.
func (s *supervisor) migrate(ctx context.Context) error {
	keystone := []string{"--config-file", s.o.path("etc/keystone/keystone.conf")}
	type step struct {
		log     string
		program string
		args    []string
		env     []string
	}
	nova := func(args ...string) step {
		return step{"nova-manage", python, append([]string{s.daemon("nova-manage"), "--config-file", s.o.path("etc/nova.conf")}, args...), nil}
	}
	chains := [][]step{
		{
			{"keystone-manage", "keystone-manage", append(keystone, "fernet_setup", "--keystone-user", "root", "--keystone-group", "root"), nil},
			{"keystone-manage", "keystone-manage", append(keystone, "credential_setup", "--keystone-user", "root", "--keystone-group", "root"), nil},
			{"keystone-manage", "keystone-manage", append(keystone, "db_sync"), nil},
			{"keystone-manage", "keystone-manage", append(keystone, "bootstrap", "--bootstrap-admin-url", s.o.local("identity")+"/v3",
				"--bootstrap-internal-url", s.o.local("identity")+"/v3", "--bootstrap-public-url", s.o.AuthURL(), "--bootstrap-region-id", Region),
				[]string{"OS_BOOTSTRAP_PASSWORD=" + s.settings.Secrets.Admin}},
			{"placement-manage", "placement-manage", []string{"--config-file", s.o.path("etc/placement/placement.conf"), "db", "sync"}, nil},
			{"glance-manage", python, []string{s.daemon("glance-manage"), "--config-file", s.o.path("etc/glance.conf"), "db_sync"}, nil},
			{"cinder-manage", python, []string{s.daemon("cinder-manage"), "--config-file", s.o.path("etc/cinder.conf"), "db", "sync"}, nil},
		},
		{
			nova("api_db", "sync"), nova("cell_v2", "map_cell0"), nova("db", "sync"), nova("cell_v2", "create_cell", "--name=cell1"),
			{"neutron-manage", python, []string{"-c", "import sys; from neutron.db.migration.cli import main; sys.exit(main())",
				"--config-file", s.o.path("etc/neutron.conf"), "--config-file", s.o.path("etc/ml2.conf"), "upgrade", "heads"}, nil},
		},
	}
	all, ctx := errgroup.WithContext(ctx)
	for _, chain := range chains {
		all.Go(func() error {
			for _, x := range chain {
				began := time.Now()
				if err := s.once(ctx, x.log, x.env, x.program, x.args...); err != nil {
					return err
				}
				s.o.Log(fmt.Sprintf("%s %s: %.1f s", x.log, x.args[len(x.args)-1], time.Since(began).Seconds()))
			}
			return nil
		})
	}
	return all.Wait()
}

const python = "/usr/bin/python3" // never another one

// daemon is a program of the unpacked packages.
func (s *supervisor) daemon(name string) string {
	return filepath.Join(s.settings.Extracted, "usr/bin", name)
}
