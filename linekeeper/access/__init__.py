"""Connect links, logins and tokens: kept encrypted, renewed one at a time, issued."""
