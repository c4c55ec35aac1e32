package bootstrap

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"os"
	"path/filepath"

	"golang.org/x/sync/errgroup"

	"github.com/catamaran-k8s/catamaran/bootstrap/pki"
	"github.com/catamaran-k8s/catamaran/bootstrap/plan"
)

// JournalFile is the site's hash-chained record of every run.
func (s *Site) JournalFile() string { return filepath.Join(s.Inventory.SiteDir(), plan.JournalName) }

// openJournal begins a run's part of the journal: who, from which machine, with which inventory, carrying out which plan.
func (s *Site) openJournal(version string, p plan.Plan) (*plan.Journal, error) {
	data, err := os.ReadFile(s.Inventory.Path)
	if err != nil {
		return nil, err
	}
	digest := sha256.Sum256(data)
	machine, _ := os.Hostname() // an empty name is written as it is
	return plan.OpenJournal(s.JournalFile(), plan.Entry{
		Operator: s.Operator, Machine: machine, Version: version,
		Inventory: hex.EncodeToString(digest[:]), Plan: p.Digest,
	})
}

// redact takes secrets out of everything an event shows.
func redact(r *pki.Redactor, e plan.Event) plan.Event {
	e.Title, e.Line, e.Error = r.Text(e.Title), r.Text(e.Line), r.Text(e.Error)
	return e
}

// lockHosts takes a lock on every reachable control plane, so that operators on different machines exclude each other.
func (s *Site) lockHosts(ctx context.Context, o Observation, command string) (release func(), err error) {
	holder := s.holder(command)
	var nodes []string
	for _, c := range s.Inventory.ClusterNames() {
		for _, n := range s.Inventory.Cluster(c).ControlPlanes() {
			if o.Facts[n.Name] != nil {
				nodes = append(nodes, n.Name)
			}
		}
	}
	releases, errs := make([]func(), len(nodes)), make([]error, len(nodes))
	var g errgroup.Group
	for i, n := range nodes {
		g.Go(func() error {
			releases[i], errs[i] = plan.AcquireRemote(ctx, s.hosts[n], holder)
			return nil
		})
	}
	_ = g.Wait() // errors are in errs, one a node
	release = func() {
		for _, r := range releases {
			if r != nil {
				r()
			}
		}
	}
	if err := errors.Join(errs...); err != nil {
		release()
		return nil, err
	}
	return release, nil
}
