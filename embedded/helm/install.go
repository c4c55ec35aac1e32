package helm

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"helm.sh/helm/v3/pkg/action"
	"helm.sh/helm/v3/pkg/kube"
	"helm.sh/helm/v3/pkg/release"
	"helm.sh/helm/v3/pkg/storage/driver"
	"k8s.io/client-go/rest"
)

// historyKept is how many revisions of a release stay in the cluster.
const historyKept = 5

// Labels that every release of ours carries on its secrets.
const (
	LabelManaged = "catamaran.dev/managed"
	LabelDigest  = "catamaran.dev/digest"
	LabelVersion = "catamaran.dev/version"
)

// Release is what is to be installed.
type Release struct {
	Name, Namespace string
	Chart           *Chart
	Values          map[string]any
	// Public are values that may be shown; without it every value is hidden from logs and errors that is not the chart's
	// default.
	Public map[string]any
	// Labels are put on the release's secrets, beside LabelManaged.
	Labels map[string]string
	// PodSecurity is the level that the namespace enforces; empty leaves an existing namespace as it is and makes a new
	// one that only warns.
	PodSecurity string
	// Timeout bounds the wait for readiness, and again that of a rollback.
	Timeout time.Duration
}

// Cluster installs releases on one cluster. The caller makes sure that nobody else does at the same time.
type Cluster struct {
	*connection
	log func(string)
}

// NewCluster returns a Cluster that is reached with config; log is told what goes on, line by line. The
// configuration's rate limits are replaced.
func NewCluster(config *rest.Config, log func(string)) (*Cluster, error) {
	c, err := connect(config)
	if err != nil {
		return nil, err
	}
	return &Cluster{c, log}, nil
}

// Apply installs the release or upgrades what is there, and returns when all of it is ready. It may be called again
// after being cut off anywhere: what an earlier run left half done is taken over, never deleted.
//
// A failed upgrade is rolled back to the last revision that was deployed, and the error says so. A failed first
// install stays as it is, so that one can look; applying again goes on from there. When ctx ends, nothing is rolled
// back: the next Apply goes on. Errors do not show values.
func (c *Cluster) Apply(ctx context.Context, r Release) error {
	defaults, err := r.Chart.AllValues(nil)
	if err != nil {
		return err
	}
	hide := NewRedactor(r.Values, defaults, r.Public)
	clean := &Cluster{c.connection, func(line string) { c.log(hide.Text(line)) }}
	err = clean.apply(ctx, r)
	return marked(hide.Error(err), err)
}

func (c *Cluster) apply(ctx context.Context, r Release) error {
	if err := r.Chart.CheckValues(r.Values); err != nil {
		return err
	}
	chart, err := r.Chart.parse()
	if err != nil {
		return err
	}
	values, err := Normal(r.Values)
	if err != nil {
		return err
	}
	w := &waiter{c.connection, c.log}
	cfg, err := c.configuration(r.Namespace, c.log, func(list kube.ResourceList, timeout time.Duration) error {
		return w.wait(ctx, list, timeout)
	})
	if err != nil {
		return err
	}
	if err := c.ensureNamespace(ctx, r.Namespace, r.PodSecurity); err != nil {
		return err
	}
	if err := c.applyCRDs(ctx, chart.CRDObjects(), r.Timeout); err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	labels := maps.Clone(r.Labels)
	if labels == nil {
		labels = map[string]string{}
	}
	labels[LabelManaged] = "true"

	last, err := c.recover(cfg, r.Name)
	if err != nil {
		return err
	}
	if last == nil || last.Info.Status == release.StatusUninstalled {
		c.log(fmt.Sprintf("installing %s %s in %s", r.Name, r.Chart.Version(), r.Namespace))
		i := action.NewInstall(cfg)
		i.ReleaseName, i.Namespace, i.Labels, i.Timeout = r.Name, r.Namespace, labels, r.Timeout
		i.Wait, i.WaitForJobs, i.SkipCRDs, i.SkipSchemaValidation = true, true, true, true
		i.Replace = last != nil // uninstalled with its history kept
		if _, err := i.Run(chart, values); err != nil {
			return stopped(ctx, fmt.Sprintf("installing %s in %s", r.Name, r.Namespace), err)
		}
		return nil
	}

	c.log(fmt.Sprintf("upgrading %s in %s from revision %d to %s", r.Name, r.Namespace, last.Version, r.Chart.Version()))
	good, err := lastGood(cfg, r.Name)
	if err != nil {
		return err
	}
	u := action.NewUpgrade(cfg)
	u.Namespace, u.Labels, u.Timeout, u.MaxHistory = r.Namespace, labels, r.Timeout, historyKept
	u.Wait, u.WaitForJobs, u.SkipCRDs, u.SkipSchemaValidation, u.ResetValues = true, true, true, true, true
	_, err = u.Run(r.Name, chart, values)
	if err == nil {
		return nil
	}
	what := fmt.Sprintf("upgrading %s in %s", r.Name, r.Namespace)
	if ctx.Err() != nil {
		return stopped(ctx, what, err)
	}
	now, lookup := cfg.Releases.Last(r.Name)
	if lookup != nil {
		return errors.Join(fmt.Errorf("%s: %w", what, err), lookup)
	}
	if now.Version == last.Version || good == 0 {
		// nothing was changed, or there is nothing to go back to
		return fmt.Errorf("%s: %w", what, err)
	}
	c.log(fmt.Sprintf("the upgrade failed, rolling back to revision %d", good))
	back := action.NewRollback(cfg)
	back.Version, back.Timeout, back.MaxHistory = good, r.Timeout, historyKept
	back.Wait, back.WaitForJobs, back.CleanupOnFail = true, true, false
	if undo := back.Run(r.Name); undo != nil {
		return fmt.Errorf("%s: %w\nrolling back to revision %d failed too: %w", what, err, good, undo)
	}
	return fmt.Errorf("%s failed and was rolled back to revision %d: %w", what, good, err)
}

func stopped(ctx context.Context, what string, err error) error {
	if ctx.Err() != nil {
		return fmt.Errorf("%s was stopped, applying again goes on: %w", what, ctx.Err())
	}
	return fmt.Errorf("%s: %w", what, err)
}

// recover returns the newest revision, nil when there is none. One that says that an operation is under way was left by
// a process that was killed, since whoever calls holds the site's lock: it becomes a failed one, which an upgrade
// starts from. Nothing is deleted.
func (c *Cluster) recover(cfg *action.Configuration, name string) (*release.Release, error) {
	last, err := cfg.Releases.Last(name)
	if errors.Is(err, driver.ErrReleaseNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	if last.Info.Status.IsPending() || last.Info.Status == release.StatusUninstalling {
		c.log(fmt.Sprintf("revision %d of %s is %s since %s: an earlier run was cut off; going on from there",
			last.Version, name, last.Info.Status, last.Info.LastDeployed.UTC().Format(time.RFC3339)))
		last.Info.Description = fmt.Sprintf("cut off while %s", last.Info.Status)
		last.Info.Status = release.StatusFailed
		if err := cfg.Releases.Update(last); err != nil {
			return nil, fmt.Errorf("marking revision %d of %s as failed: %w", last.Version, name, err)
		}
	}
	return last, nil
}

// lastGood is the newest deployed revision, 0 when there is none.
func lastGood(cfg *action.Configuration, name string) (int, error) {
	deployed, err := cfg.Releases.Deployed(name)
	if errors.Is(err, driver.ErrNoDeployedReleases) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	return deployed.Version, nil
}

// Uninstall removes a release and waits until its objects are gone. What is not there is no error. CRDs stay.
func (c *Cluster) Uninstall(ctx context.Context, namespace, name string, timeout time.Duration) error {
	cfg, err := c.configuration(namespace, c.log, nil)
	if err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	u := action.NewUninstall(cfg)
	u.IgnoreNotFound, u.Wait, u.Timeout = true, true, timeout
	if _, err := u.Run(name); err != nil {
		return fmt.Errorf("uninstalling %s in %s: %w", name, namespace, err)
	}
	return nil
}

// Manifest is what the newest revision of a release installed; empty when there is no such release.
func (c *Cluster) Manifest(namespace, name string) (string, error) {
	cfg, err := c.configuration(namespace, c.log, nil)
	if err != nil {
		return "", err
	}
	last, err := cfg.Releases.Last(name)
	if errors.Is(err, driver.ErrReleaseNotFound) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	return last.Manifest, nil
}

// Capabilities are what templates see of this cluster: its version and its API groups and kinds.
func (c *Cluster) Capabilities() (version string, apis []string, err error) {
	info, err := c.clients.Discovery().ServerVersion()
	if err != nil {
		return "", nil, err
	}
	set, err := action.GetVersionSet(c.discovery)
	if err != nil {
		return "", nil, err
	}
	apis = slices.Sorted(slices.Values([]string(set)))
	return strings.TrimPrefix(info.GitVersion, "v"), apis, nil
}
