package main

import (
	"encoding/json"
	"fmt"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/catamaran-k8s/catamaran/bootstrap"
)

func newLogs(g *global) *cobra.Command {
	var since time.Duration
	var limit int
	var tenant, format string
	c := &cobra.Command{
		Use:   "logs [LOGQL]",
		Short: "Read what the workload cluster delivered, from Loki of the service cluster",
		Long: `Logs asks Loki through a node of the service cluster, with a certificate made for this; nothing has to be opened for it. Without a
query it shows all of the workload cluster. Labels are source, namespace, pod, container and node; LogQL is Grafana's:
https://grafana.com/docs/loki/latest/query/`,
		Example: `  catamaran logs '{source="audit"} |= "secrets"' --since 1h
  catamaran logs '{source="containers", namespace="shop"}'`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return g.reading(cmd.Context(), func(s *bootstrap.Site, from *stores) error {
				query := `{source=~".+"}`
				if len(args) == 1 {
					query = args[0]
				}
				if tenant == "" {
					tenant = s.Inventory.Platform.Tenant
				}
				now := time.Now()
				entries, err := from.Logs(cmd.Context(), tenant, query, now.Add(-since), now.Add(time.Minute), limit)
				if err != nil {
					return err
				}
				if format == "json" {
					return json.NewEncoder(os.Stdout).Encode(entries)
				}
				for _, e := range entries {
					if _, err := fmt.Printf("%s %s/%s %s\n", e.At.Format("2006-01-02T15:04:05.000Z07:00"), e.Labels["source"], e.Labels["node"], e.Line); err != nil {
						return err
					}
				}
				if len(entries) == limit {
					fmt.Fprintf(os.Stderr, "the first %d records; --limit and --since show others\n", limit)
				}
				return nil
			})
		},
	}
	f := c.Flags()
	f.DurationVar(&since, "since", 5*time.Minute, "how far back")
	f.IntVar(&limit, "limit", 500, "at most so many records, the oldest first (Loki allows 5000)")
	f.StringVar(&tenant, "tenant", "", "whose (default the inventory's workload cluster)")
	f.StringVarP(&format, "output", "o", "text", "text or json")
	return c
}
