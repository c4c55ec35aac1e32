// Command trivy-db writes a database of vulnerabilities as Trivy reads it (bbolt, schema 2), into the folder db of the one that
// it is given. What it holds is made up: the lab has no way to the real one, and needs a scan that finds something that is known.
package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"go.etcd.io/bbolt"
)

// schema is the version of the format.
const schema = 2

// finding is something that is wrong with a package.
type finding struct {
	// bucket is where Trivy looks the package up: an ecosystem or a release of a distribution, with the source's name.
	bucket, source, pkg string
	advisory            map[string]any
	id, severity, title string
}

func findings() []finding {
	return []finding{
		{
			bucket: "go::GitHub Security Advisory Go", source: "ghsa", pkg: "github.com/flannel-io/flannel",
			advisory: map[string]any{"VulnerableVersions": []string{">= 0, < 99.0.0"}, "PatchedVersions": []string{"99.0.0"}},
			id:       "CVE-1999-99001", severity: "CRITICAL", title: "made up by the lab: every flannel",
		},
		{
			bucket: "go::GitHub Security Advisory Go", source: "ghsa", pkg: "go.etcd.io/bbolt", // of etcd, and of this program
			advisory: map[string]any{"VulnerableVersions": []string{">= 0, < 99.0.0"}, "PatchedVersions": []string{"99.0.0"}},
			id:       "CVE-1999-99003", severity: "CRITICAL", title: "made up by the lab: every bbolt",
		},
		{
			bucket: "alpine 3.22", source: "alpine", pkg: "busybox",
			advisory: map[string]any{"FixedVersion": "9.9.9-r9"},
			id:       "CVE-1999-99002", severity: "HIGH", title: "made up by the lab: every \"busybox\"",
		},
	}
}

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: trivy-db FOLDER")
		os.Exit(2)
	}
	if err := write(filepath.Join(os.Args[1], "db")); err != nil {
		fmt.Fprintln(os.Stderr, "trivy-db:", err)
		os.Exit(1)
	}
}

func write(dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	// equal in each run
	made := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	about, err := json.Marshal(map[string]any{"Version": schema, "UpdatedAt": made, "NextUpdate": made.AddDate(0, 0, 1), "DownloadedAt": made})
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(dir, "metadata.json"), about, 0o644); err != nil {
		return err
	}
	db, err := bbolt.Open(filepath.Join(dir, "trivy.db"), 0o644, &bbolt.Options{PageSize: 4096})
	if err != nil {
		return err
	}
	// a transaction each: of one that changes several buckets the order on disk is another in each run
	for _, f := range findings() {
		err = errors.Join(err,
			put(db, []string{f.bucket, f.pkg}, f.id, f.advisory),
			put(db, []string{"data-source"}, f.bucket, map[string]any{"ID": f.source, "Name": "made up by the lab"}),
			put(db, []string{"vulnerability"}, f.id, map[string]any{"Title": f.title, "Severity": f.severity}))
	}
	return errors.Join(err, db.Close())
}

func put(db *bbolt.DB, buckets []string, key string, value map[string]any) error {
	text, err := json.Marshal(value)
	if err != nil {
		return err
	}
	return db.Update(func(tx *bbolt.Tx) error {
		b, err := tx.CreateBucketIfNotExists([]byte(buckets[0]))
		if err != nil {
			return err
		}
		for _, name := range buckets[1:] {
			if b, err = b.CreateBucketIfNotExists([]byte(name)); err != nil {
				return err
			}
		}
		return b.Put([]byte(key), text)
	})
}
