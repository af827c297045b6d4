"""Reports as pages: one evaluation (`single`), or two compared (`comparison`), by hotcoco's diagnostics."""
