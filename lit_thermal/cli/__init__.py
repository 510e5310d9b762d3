"""The command line: `dispatch` picks the verb, `app` runs Lightning's verbs, one file per other verb."""
