package demo

import (
	"os"
	"testing"

	"bzzz/internal/cliout"
)

func TestTmp(t *testing.T) {
	p := cliout.New(cliout.Options{})
	r, err := Run(t.Context(), Options{AfterStep: NewText(p, "bzzz").Step})
	if err != nil {
		t.Error(err)
	}
	for _, s := range r.Syncs { t.Log(s.Phase, s.From, s.To, s.BytesSent, s.BytesReceived, s.BytesSent+s.BytesReceived-s.NetworkBytes) }
	_ = os.Stdout
}
