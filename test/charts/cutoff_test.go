package charts

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"testing"

	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/rest"

	"github.com/catamaran-k8s/catamaran/embedded/helm"
)

// childVariable turns this test program into one that applies a release; the work comes as JSON on standard input.
const childVariable = "CATAMARAN_TEST_CHARTS_CHILD"

type childWork struct {
	Host, Token, CAFile string
	Files               []helm.File
	Release             helm.Release
}

// child applies a release in a process that can be killed.
func child() int {
	var work childWork
	if err := json.NewDecoder(os.Stdin).Decode(&work); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	chart, err := helm.LoadFiles(work.Files)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	work.Release.Chart = chart
	config := &rest.Config{Host: work.Host, BearerToken: work.Token, TLSClientConfig: rest.TLSClientConfig{CAFile: work.CAFile}}
	cluster, err := helm.NewCluster(config, func(line string) { fmt.Fprintln(os.Stderr, line) })
	if err == nil {
		err = cluster.Apply(context.Background(), work.Release)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

// killedWhileApplying applies a release in another process and kills it with SIGKILL as soon as the release's newest
// revision has a status.
func killedWhileApplying(t *testing.T, files []helm.File, r helm.Release, status string) {
	t.Helper()
	secrets := clientset(t).CoreV1().Secrets(r.Namespace)
	selector := metav1.ListOptions{LabelSelector: "owner=helm,name=" + r.Name + ",status=" + status}
	none, err := secrets.List(t.Context(), selector)
	require.NoError(t, err)
	require.Empty(t, none.Items, "the release is %s before it is applied", status)
	selector.ResourceVersion = none.ResourceVersion
	w, err := secrets.Watch(t.Context(), selector)
	require.NoError(t, err)
	defer w.Stop()

	r.Chart = nil
	work, err := json.Marshal(childWork{Host: server.config.Host, Token: server.config.BearerToken, CAFile: server.config.CAFile, Files: files, Release: r})
	require.NoError(t, err)
	self, err := os.Executable()
	require.NoError(t, err)
	cmd := exec.CommandContext(t.Context(), self)
	cmd.Env = append(os.Environ(), childVariable+"=1")
	in, err := cmd.StdinPipe()
	require.NoError(t, err)
	log, err := os.CreateTemp(t.TempDir(), "child")
	require.NoError(t, err)
	defer func() { _ = log.Close() }()
	cmd.Stderr = log
	require.NoError(t, cmd.Start())
	_, err = in.Write(work)
	require.NoError(t, err)
	require.NoError(t, in.Close())

	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	for {
		select {
		case event := <-w.ResultChan():
			if event.Type == watch.Added {
				require.NoError(t, cmd.Process.Kill())
				<-ended
				return
			}
		case err := <-ended:
			said, _ := os.ReadFile(log.Name())
			t.Fatalf("it ended before it was %s: %v\n%s", status, err, said)
		}
	}
}
