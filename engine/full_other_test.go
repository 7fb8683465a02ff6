//go:build !linux

package engine_test

import "bzzz/engine"

func (c *crashTask) full() error { return engine.ErrUnsupported }

func (c *crashTask) tight() error { return engine.ErrUnsupported }
