"""What a Laravel application's own files say about its queues, read without starting PHP.

`dotenv` reads `.env`, `phpfile` the files below `config` and the cached configuration, `settings` tells from both where
the queue is and what it is called. Pure: who reads the files is adapters/queues/laravel.
"""
