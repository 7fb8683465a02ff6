package main

import (
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"

	"bzzz/internal/cliout"
)

func newVersionCmd(a *app) *cobra.Command {
	return &cobra.Command{
		Use:     "version",
		Short:   "Print the version of this program",
		Long:    "Print the version of this program, the revision it was built from, by which Go and\nfor which platform.",
		Example: "  bzzz version -o json",
		Args:    cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			version, revision, modified := "unknown", any(nil), any(nil)
			if info, ok := debug.ReadBuildInfo(); ok {
				version = info.Main.Version
				for _, s := range info.Settings {
					switch s.Key {
					case "vcs.revision":
						revision = s.Value
					case "vcs.modified":
						modified = s.Value == "true"
					}
				}
			}
			return a.p.Object(cliout.Field{Name: "version", Value: version},
				cliout.Field{Name: "revision", Value: revision},
				cliout.Field{Name: "modified", Value: modified},
				cliout.Field{Name: "go", Value: runtime.Version()},
				cliout.Field{Name: "platform", Value: runtime.GOOS + "/" + runtime.GOARCH})
		},
	}
}
