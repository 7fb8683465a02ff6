// Package arch holds no code, only tests of the house rules: who may import
// whom, one package comment each, how long a file may be.
package arch
