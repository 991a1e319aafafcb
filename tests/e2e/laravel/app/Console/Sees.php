<?php

namespace App\Console;

use Illuminate\Console\Command;
use Illuminate\Support\Facades\Queue;

/** What the application itself takes its settings and its queue's size to be. */
class Sees extends Command
{
    protected $signature = 'app:sees {--config=*} {--connection=} {--queue=}';

    public function handle(): void
    {
        if ($keys = $this->option('config')) {
            $this->line(json_encode(array_combine($keys, array_map('config', $keys)), JSON_UNESCAPED_SLASHES));
        } else {
            $this->line(Queue::connection($this->option('connection'))->size($this->option('queue')));
        }
    }
}
