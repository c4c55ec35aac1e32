package main

import (
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

func TestWget(t *testing.T) {
	t.Parallel()
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/gone" {
			w.WriteHeader(http.StatusGone)
		}
		_, _ = w.Write([]byte("body"))
	}))
	t.Cleanup(srv.Close)
	for _, c := range []struct {
		args       string
		want, fail string
	}{
		{args: "-qO- " + srv.URL, want: "body"},
		{args: "-q -T5 -O - " + strings.TrimPrefix(srv.URL, "http://"), want: "body"},
		{args: "-q --spider " + srv.URL},
		{args: "-qO- " + srv.URL + "/gone", fail: "410"},
		{args: "-qO-", fail: "no URL"},
		{args: "-T x " + srv.URL, fail: "expected seconds"},
		{args: "-c " + srv.URL, fail: "not known"},
	} {
		var out strings.Builder
		err := wget(context.Background(), strings.Fields(c.args), &out)
		if got := out.String(); got != c.want {
			t.Errorf("wget %s: printed %q, expected %q", c.args, got, c.want)
		}
		if (err != nil) != (c.fail != "") || err != nil && !strings.Contains(err.Error(), c.fail) {
			t.Errorf("wget %s: error %v, expected %q", c.args, err, c.fail)
		}
	}
}
