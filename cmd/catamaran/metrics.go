package main

import (
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/catamaran-k8s/catamaran/bootstrap"
)

func newMetrics(g *global) *cobra.Command {
	var format string
	c := &cobra.Command{
		Use:   "metrics PROMQL",
		Short: "Evaluate PromQL over the metrics of both clusters, in Thanos of the service cluster",
		Long: `Metrics asks Thanos through a node of the service cluster, with a certificate made for this; nothing has to be opened for it. The label
tenant_id says whose a series is: "service", or the workload cluster's tenant as its certificate says it. ALERTS are series too.`,
		Example: `  catamaran metrics 'sum by (tenant_id) (up)'
  catamaran metrics 'ALERTS{alertstate="firing"}'`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return g.reading(cmd.Context(), func(_ *bootstrap.Site, from *stores) error {
				samples, err := from.Metrics(cmd.Context(), args[0])
				if err != nil {
					return err
				}
				if format == "json" {
					return json.NewEncoder(os.Stdout).Encode(samples)
				}
				w := tabwriter.NewWriter(os.Stdout, 0, 4, 2, ' ', 0)
				for _, m := range samples {
					if _, err := fmt.Fprintf(w, "%s\t%g\n", seriesName(m.Labels), m.Value); err != nil {
						return err
					}
				}
				return w.Flush()
			})
		},
	}
	c.Flags().StringVarP(&format, "output", "o", "text", "text or json")
	return c
}

// seriesName writes labels as PromQL does.
func seriesName(labels map[string]string) string {
	var pairs []string
	for k, v := range labels {
		if k != "__name__" {
			pairs = append(pairs, fmt.Sprintf("%s=%q", k, v))
		}
	}
	slices.Sort(pairs)
	return labels["__name__"] + "{" + strings.Join(pairs, ",") + "}"
}
