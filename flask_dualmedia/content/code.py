"""The section of the table with notebooks, data for programs, and source code.

Its lines are written as in the others.
"""

from __future__ import annotations

CODE = """
# Notebooks and data
application/x-ipynb+json: ipynb
application/json: json map webmanifest har jsonl ndjson json5 jsonc = text/json application/x-json
application/ld+json: jsonld
application/schema+json: schema
application/yaml: yaml yml = application/x-yaml text/yaml text/x-yaml
application/toml: toml = text/x-toml
text/x-ini: ini cfg conf editorconfig gitconfig env npmrc
text/x-java-properties: properties
text/x-gitignore: gitignore gitattributes dockerignore
text/xml: xml xsd rng csproj vcxproj plist xib storyboard resx xaml pom = application/xml
application/xslt+xml: xslt xsl = text/xsl in text/xml
application/xml-dtd: dtd
application/rdf+xml: rdf owl in text/xml
application/wsdl+xml: wsdl in text/xml
application/xliff+xml: xlf xliff in text/xml
text/turtle: ttl
application/n-triples: nt
application/sql: sql ddl dml = text/x-sql application/x-sql
application/graphql: graphql gql
text/x-protobuf: proto
application/sparql-query: rq sparql
application/wasm: wasm
text/x-diff: diff patch = text/x-patch

# The web
text/html: html htm shtml xht in text/xml
application/xhtml+xml: xhtml in text/xml text/html
text/css: css
text/x-scss: scss
text/x-sass: sass
text/x-less: less
text/javascript: js mjs cjs jsx es6 = application/javascript application/x-javascript
text/x-typescript: ts tsx cts mts = application/typescript application/x-typescript
text/x-vue: vue in text/html text/xml
text/x-svelte: svelte in text/html text/xml
text/x-astro: astro in text/html
text/x-php: php php3 php4 php5 phtml = application/x-httpd-php application/x-php
    in text/html text/xml
text/x-jsp: jsp jspx in text/html text/xml
text/x-asp: asp aspx cshtml razor in text/html text/xml
text/x-jinja: j2 jinja jinja2 twig liquid njk in text/html text/xml
text/x-handlebars: hbs handlebars mustache ejs erb haml pug in text/html text/xml
text/x-mdx: mdx

# Languages
text/x-python: py pyw pyi pyx gyp wsgi sage
    = text/x-script.python application/x-python application/x-python-code
text/x-csrc: c = text/x-c
text/x-chdr: h
text/x-c++src: cpp cc cxx c++ ino tpp
text/x-c++hdr: hpp hh hxx h++
text/x-csharp: cs csx
text/x-java: java = text/x-java-source
text/x-kotlin: kt kts
text/x-scala: scala sc sbt
text/x-groovy: groovy gradle /jenkinsfile
text/x-clojure: clj cljs cljc edn
text/x-go: go mod sum
text/x-rust: rs = text/rust
text/x-swift: swift
text/x-objcsrc: objc = text/x-objective-c
text/x-matlab: m matlab
application/x-matlab-live: mlx in application/zip
text/x-r: r rprofile
text/x-julia: jl
text/x-ruby: rb rake gemspec ru /gemfile /rakefile /vagrantfile /podfile = application/x-ruby
text/x-perl: pl pm perl = application/x-perl
text/x-lua: lua
text/x-tcl: tcl tk = application/x-tcl
text/x-haskell: hs lhs
text/x-ocaml: ml mli
text/x-fsharp: fs fsx fsi
text/x-elm: elm
text/x-erlang: erl hrl
text/x-elixir: ex exs heex
text/x-common-lisp: lisp lsp cl el
text/x-scheme: scm ss rkt
text/x-prolog: pro prolog
text/x-pascal: pas pp dpr lpr
text/x-fortran: f f90 f95 f03 f08 for
text/x-ada: adb ads ada
text/x-cobol: cob cbl cpy
text/x-vb: vb bas vbs frm
text/x-dart: dart
text/x-zig: zig
text/x-nim: nim
text/x-crystal: cr
text/x-d: d
text/x-solidity: sol
text/x-asm: s asm nasm
text/x-verilog: v sv svh
text/x-vhdl: vhd vhdl
text/x-glsl: glsl vert frag
text/x-cuda: cu cuh
text/x-processing: pde
text/x-openscad: scad
text/x-gdscript: gd tscn
application/x-sh: sh bash zsh ksh fish bashrc zshrc profile
    = text/x-sh text/x-shellscript application/x-shellscript
application/x-bat: bat cmd = application/x-msdos-program
application/x-powershell: ps1 psm1 psd1 = text/x-powershell
text/x-awk: awk
text/x-dockerfile: dockerfile containerfile /dockerfile /containerfile
text/x-makefile: mk mak makefile /makefile /gnumakefile
text/x-cmake: cmake /cmakelists.txt
text/x-nix: nix
text/x-terraform: tf tfvars hcl
text/x-bazel: bzl bazel
text/x-vim: vim vimrc
application/java-vm: class
application/x-python-bytecode: pyc pyo
!application/vnd.microsoft.portable-executable: exe dll sys scr
    = application/x-msdownload application/x-dosexec
!application/x-executable: elf so o = application/x-sharedlib application/x-elf
!application/vnd.adobe.flash.movie: swf = application/x-shockwave-flash
application/x-nintendo-nes-rom: nes
"""
