package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/catamaran-k8s/catamaran/bootstrap/verify"
	"github.com/catamaran-k8s/catamaran/bootstrap/verify/chainfile"
	"github.com/catamaran-k8s/catamaran/cmd/ingest-gateway/chain"
)

func newVerifyChain(g *global) *cobra.Command {
	var o chainfile.Options
	var format string
	var lockDays int
	c := &cobra.Command{
		Use:   "chain [TENANT...]",
		Short: "Read all evidence objects and check their numbers, hashes and locks",
		Long: `Chain reads every object of every tenant's evidence, or of those that are named, and checks that none is missing, changed, moved or without
its COMPLIANCE lock. The end of each chain is compared with what the gateway says it wrote and with the last verification of this site, so
that a chain that was cut off at its end is noticed too. A big chain takes its time: all bytes are read, through SSH.
Exit codes: 0 all is whole, 1 something is not, 4 a part could not be read.`,
		RunE: func(cmd *cobra.Command, tenants []string) error {
			k, err := g.check()
			if err != nil {
				return err
			}
			defer k.site.Close()
			from, err := openStores(cmd.Context(), k.site)
			if err != nil {
				return err
			}
			o.MinRetention = time.Duration(lockDays) * 24 * time.Hour
			o.Archive, o.Sequences, o.Progress = from.bucket, from.Sequences, chainProgress(g.progress)
			o.Tenants = tenants
			if len(tenants) == 0 {
				o.Tenants = knownTenants(cmd.Context(), from, k.site.Inventory.Platform.Tenant)
			}
			if o.Known, err = knownEnds(k.site.Inventory.SiteDir(), k.signer); err != nil {
				return err
			}
			d, err := chainfile.Run(cmd.Context(), k.subject, o)
			if err != nil {
				return err
			}
			return k.finish(d, format)
		},
	}
	f := c.Flags()
	f.StringVarP(&format, "output", "o", "text", "text or json")
	f.IntVar(&o.Parallel, "parallel", 8, "how many objects are read at once")
	f.Uint64Var(&o.Begin, "begin", 0, "the first number that must be there, where earlier ones were removed after their retention (default 1)")
	f.IntVar(&lockDays, "lock-days", 0, "the least that objects must be locked for, in days (default what each says of itself)")
	return c
}

// knownTenants are those that the gateway knows; the site's own also while the gateway does not answer.
func knownTenants(ctx context.Context, from *stores, own string) []string {
	out := []string{own}
	numbers, _ := from.Sequences(ctx) // asked again by the verification, which tells its error
	for t := range numbers {
		if t != own {
			out = append(out, t)
		}
	}
	slices.Sort(out)
	return out
}

// knownEnds are where the chains were seen to end by the last verification of this site. A document that was changed is an
// error: what it said can not be known any more.
func knownEnds(siteDir string, s verify.Signer) (map[string]chain.Point, error) {
	paths, err := filepath.Glob(filepath.Join(verify.Folder(siteDir), chainfile.Kind+"-*.json"))
	if err != nil || len(paths) == 0 {
		return nil, err
	}
	last := slices.Max(paths)
	d, err := verify.Read(last, s.Public())
	if err != nil {
		return nil, fmt.Errorf("the last verification: %w; where the chains ended then is not known: move the file away to begin anew", err)
	}
	var data chainfile.Data
	if err := json.Unmarshal(d.Data, &data); err != nil {
		return nil, fmt.Errorf("%s: %w", last, err)
	}
	return data.Ends, nil
}

// chainProgress tells how far the reading is, once a second.
func chainProgress(mode string) func(tenant string, objects, bytes int64) {
	if mode == "none" || mode == "json" {
		return nil
	}
	var last time.Time
	return func(tenant string, objects, bytes int64) {
		if now := time.Now(); now.Sub(last) >= time.Second {
			last = now
			_, _ = fmt.Fprintf(os.Stderr, "%s: %d objects, %d MiB read\n", tenant, objects, bytes>>20)
		}
	}
}
