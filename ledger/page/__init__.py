"""The supply-chain finance desk as pages: one institution, one operator, on the institution's own machine.

`sessions` says who may look, `routes` what the pages do, `words` what they say in English and Chinese. htmx 2.0.11 is
vendored in ``static`` from the npm package ``htmx.org`` (licence 0BSD, beside it); no script comes from elsewhere, and
none stands in a page.
"""
