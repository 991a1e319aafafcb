<?php

namespace App\Work;

/** Takes config('app.long_seconds'), computing as far as a signal can tell: it is not cut short by one that is handled. */
class Long extends Piece
{
    protected function work(): void
    {
        $until = hrtime(true) + config('app.long_seconds') * 1e9;
        while (($left = $until - hrtime(true)) > 0) {
            usleep((int) min($left / 1e3, 50000));
        }
    }
}
