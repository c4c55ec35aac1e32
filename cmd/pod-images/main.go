// Command pod-images writes down which images the running pods of a node use, for a scanner that can not ask the API itself. It
// runs in a pod and needs the right to list pods. A line is
//
//	REFERENCE IMAGE NAMESPACE/POD/CONTAINER
//
// where REFERENCE has the digest of what runs if the runtime knows where it came from, IMAGE is what the pod asked for, and the
// pod is one of those that use it. Each reference is there once; lines are sorted.
package main

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// account is where a pod finds its service account.
const account = "/var/run/secrets/kubernetes.io/serviceaccount"

// pageSize bounds what one answer of the API holds.
const pageSize = 500

func main() {
	node := flag.String("node", "", "`name` of the node; empty: all")
	output := flag.String("output", "", "`file` to write to; empty: standard output")
	timeout := flag.Duration("timeout", 2*time.Minute, "how long to ask the API")
	flag.Parse()
	if err := run(*node, *output, *timeout); err != nil {
		fmt.Fprintln(os.Stderr, "pod-images:", err)
		os.Exit(1)
	}
}

func run(node, output string, timeout time.Duration) error {
	if flag.NArg() > 0 {
		return fmt.Errorf("it takes no arguments, got %q", flag.Arg(0))
	}
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	host, port := os.Getenv("KUBERNETES_SERVICE_HOST"), os.Getenv("KUBERNETES_SERVICE_PORT")
	if host == "" || port == "" {
		return errors.New("KUBERNETES_SERVICE_HOST and KUBERNETES_SERVICE_PORT are not set: this is to run in a pod")
	}
	a, err := newAPI("https://"+net.JoinHostPort(host, port), account)
	if err != nil {
		return err
	}
	list, err := a.images(ctx, node)
	if err != nil {
		return err
	}
	text := strings.Join(list, "\n")
	if text != "" {
		text += "\n"
	}
	if output == "" {
		_, err = io.WriteString(os.Stdout, text)
		return err
	}
	// the scanner is another user
	return os.WriteFile(output, []byte(text), 0o644)
}

// api is the API server as a pod reaches it.
type api struct {
	url, token string
	client     *http.Client
}

func newAPI(address, folder string) (*api, error) {
	token, err := os.ReadFile(filepath.Join(folder, "token"))
	if err != nil {
		return nil, fmt.Errorf("the pod has no service account: %w", err)
	}
	ca, err := os.ReadFile(filepath.Join(folder, "ca.crt"))
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(ca) {
		return nil, fmt.Errorf("%s holds no certificate", filepath.Join(folder, "ca.crt"))
	}
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}}
	return &api{address, strings.TrimSpace(string(token)), &http.Client{Transport: transport}}, nil
}

// podList is the part of the API's answer that is of interest.
type podList struct {
	Metadata struct{ Continue string }
	Items    []struct {
		Metadata struct{ Namespace, Name string }
		Status   struct {
			InitContainerStatuses, ContainerStatuses, EphemeralContainerStatuses []containerStatus
		}
	}
}

type containerStatus struct {
	Name, Image, ImageID string
	State                struct{ Running *struct{} }
}

// images returns the lines.
func (a *api) images(ctx context.Context, node string) ([]string, error) {
	found := map[string]string{}
	selector := "status.phase=Running"
	if node != "" {
		selector += ",spec.nodeName=" + node
	}
	query := url.Values{"limit": {strconv.Itoa(pageSize)}, "fieldSelector": {selector}}
	for {
		var page podList
		if err := a.get(ctx, "/api/v1/pods?"+query.Encode(), &page); err != nil {
			return nil, err
		}
		for _, p := range page.Items {
			for _, c := range slices.Concat(p.Status.InitContainerStatuses, p.Status.ContainerStatuses, p.Status.EphemeralContainerStatuses) {
				if c.State.Running == nil {
					continue // it has ended, or its image has not been pulled
				}
				line := fmt.Sprintf("%s %s/%s/%s", c.Image, p.Metadata.Namespace, p.Metadata.Name, c.Name)
				if have, ok := found[c.reference()]; !ok || line < have {
					found[c.reference()] = line
				}
			}
		}
		if page.Metadata.Continue == "" {
			break
		}
		query.Set("continue", page.Metadata.Continue)
	}
	var out []string
	for reference, rest := range found {
		out = append(out, reference+" "+rest)
	}
	slices.SortFunc(out, cmp.Compare[string])
	return out, nil
}

// reference names what runs. An image that was imported on the node is known by its content's hash alone, which no registry
// can be asked for.
func (c containerStatus) reference() string {
	if repository, _, ok := strings.Cut(c.ImageID, "@"); ok && repository != "" && !strings.HasPrefix(c.ImageID, "docker-pullable:") {
		return c.ImageID
	}
	return c.Image
}

func (a *api) get(ctx context.Context, path string, into any) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, a.url+path, nil)
	if err != nil {
		return err
	}
	req.Header.Set("Authorization", "Bearer "+a.token)
	res, err := a.client.Do(req)
	if err != nil {
		return err
	}
	defer func() { _ = res.Body.Close() }()
	if res.StatusCode != http.StatusOK {
		text, _ := io.ReadAll(io.LimitReader(res.Body, 500)) // it only explains
		return fmt.Errorf("listing pods: HTTP %d: %s", res.StatusCode, text)
	}
	return json.NewDecoder(res.Body).Decode(into)
}
